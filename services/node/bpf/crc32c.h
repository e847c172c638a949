/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
#ifndef OCTOPLANE_CRC32C_H
#define OCTOPLANE_CRC32C_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/*
 * SCTP's checksum (RFC 9260, appendix A) after a change of ports. No helper renews it, and nobody has to read the packet again:
 * a CRC is linear, so what changes in it is the CRC of the changed bits with zeros behind them, which is a product of
 * polynomials modulo the CRC's own. Addresses are not part of it.
 */

/* Bits are reflected: the highest is x^0. */
#define CRC32C_POLYNOMIAL 0x82f63b78

/* x^(8 * 2^i): what 2^i bytes of zeros multiply by. */
static const __u32 crc32c_zeros[16] = {
	0x00800000, 0x00008000, 0x82f63b78, 0x6ea2d55c, 0x18b8ea18, 0x510ac59a, 0xb82be955, 0xb8fdb1e7,
	0x88e56f72, 0x74c360a4, 0xe4172b16, 0x0d65762a, 0x35d73a62, 0x28461564, 0xbf455269, 0xe2ea32dc,
};

/* Bits are multiplied by, and not tested: the verifier would walk both outcomes of every test. */
static __always_inline __u32 crc32c_multiply(__u32 a, __u32 b)
{
	__u32 product = 0;
	int i;

#pragma unroll
	for (i = 0; i < 32; i++) {
		product ^= b * (a >> 31);
		a <<= 1;
		b = b >> 1 ^ CRC32C_POLYNOMIAL * (b & 1);
	}
	return product;
}

struct crc32c_shift {
	__u32 crc;
	__u32 bytes;
};

static long crc32c_shift_step(__u32 i, void *context)
{
	struct crc32c_shift *shift = context;

	if (i > 15)
		return 1;
	if (shift->bytes >> i & 1)
		shift->crc = crc32c_multiply(shift->crc, crc32c_zeros[i]);
	return 0;
}

/*
 * What to add (that is XOR) to the checksum of `bytes` bytes, the first four of which change by `difference`. Not static: the
 * verifier looks at a global function once, and not again on every path that leads to it.
 */
__noinline __u32 crc32c_difference(__u32 difference, __u32 bytes)
{
	struct crc32c_shift shift = { .crc = difference, .bytes = bytes };

	bpf_loop(16, crc32c_shift_step, &shift, 0);
	return shift.crc;
}

#endif
