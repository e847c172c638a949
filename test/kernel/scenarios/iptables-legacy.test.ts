import { describeDriver } from '../../support/scenarios/each-driver.ts';
import { tellScenarios } from '../../support/scenarios/suite.ts';

await describeDriver('iptables-legacy', tellScenarios);
