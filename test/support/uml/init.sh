#!/bin/sh
# The first process of the guest (see guest.ts). JOB, a directory of the host, comes from the kernel's command line; the
# job's script is $JOB/run, and its exit code goes to $JOB/exit. The guest sees the host's files, but writes only to memory,
# to $JOB and to the directories that the job names, so nothing else that a test does in here can change the machine.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/job
mount -t hostfs -o "$JOB" none /run/job
while read -r dir; do
  mount -t hostfs -o "$dir" none "$dir"
done </run/job/writable
# Not over /tmp: the checkout may be there.
mkdir -m 1777 /run/tmp
TMPDIR=/run/tmp
HOME=/run/tmp
# Starting Node takes a third of the time once it has compiled a file.
NODE_COMPILE_CACHE=/run/tmp/compiled
export TMPDIR HOME NODE_COMPILE_CACHE

# What the guest's kernel calls when it needs a module: the host has none for it in /lib/modules.
echo /run/job/modprobe >/proc/sys/kernel/modprobe
ip link set lo up
# Every other kernel has it built in.
/run/job/modprobe ipv6
# A limit of the whole machine, which the daemons of the lab, in namespaces, find as an operator has left it.
/run/job/modprobe nf_conntrack hashsize=131072

/run/job/run </dev/null
echo $? >/run/job/exit
echo o >/proc/sysrq-trigger
# Powering off takes a moment, and the kernel panics when its first process ends.
sleep 60
