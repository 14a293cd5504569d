// SPDX-License-Identifier: GPL-2.0-only
/*
 * What xdropd is measured against, and what feeds it. Compiled like xdrop.bpf.c, with the same headers.
 *
 *   drive4         writes the next source address of a pool into the packet and calls the contender
 *   drive6         the same for IPv6
 *   contend_pass   the zero of the scale: returns XDP_PASS
 *   contend_drop   the limit of a drop rate: returns XDP_DROP
 *   contend_plain  what one writes first: one BPF_HASH of IPv4 addresses that counts packets, bytes and last seen of each
 *                  entry. No networks, no IPv6, no VLAN tags, no totals, no settings, no log.
 *   contend_trie   the same with one BPF_LPM_TRIE, so that it knows networks
 *   contend_plain6, contend_trie6   the same for IPv6
 *   generate       sends each frame that it is given to an interface, for live frames
 *   generate_many  the same, each frame from the next source address of the pool
 */
#include <uapi/linux/if_ether.h>
#include <uapi/linux/ip.h>
#include <uapi/linux/ipv6.h>
#include <linux/stddef.h>
#include <asm/byteorder.h>

#define FITTED 1
#define POOL (1 << 20)

struct counters {
	__u64 packets;
	__u64 bytes;
	__u64 last_seen_ns;
	__u64 unused;
};

struct trie_key {
	__u32 length_bits;
	__be32 address_be;
};

struct trie_key6 {
	__u32 length_bits;
	struct ipv6_address address;
} __attribute__((packed)); /* as the kernel wants it, without a hole */

BPF_PROG_ARRAY(contender, 1);
BPF_ARRAY(position, __u32, 1);
BPF_ARRAY(pool4, __be32, POOL);
BPF_ARRAY(pool6, struct ipv6_address, POOL);
BPF_HASH(plain4, __be32, struct counters, FITTED);
BPF_HASH(plain6, struct ipv6_address, struct counters, FITTED);
BPF_LPM_TRIE(trie4, struct trie_key, struct counters, FITTED);
BPF_LPM_TRIE(trie6, struct trie_key6, struct counters, FITTED);
BPF_ARRAY(outlet, __u32, 1);

static __always_inline struct ipv4_header *ipv4_of(struct xdp_md *context)
{
	void *start = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	struct ethhdr *ethernet = start;
	struct ipv4_header *ip = start + sizeof(*ethernet);

	if ((void *)(ip + 1) > end || ethernet->type_be != to_be16(ETHERTYPE_IPV4))
		return NULL;
	return ip;
}

static __always_inline struct ipv6_header *ipv6_of(struct xdp_md *context)
{
	void *start = (void *)(long)context->data, *end = (void *)(long)context->data_end;
	struct ethhdr *ethernet = start;
	struct ipv6_header *ip = start + sizeof(*ethernet);

	if ((void *)(ip + 1) > end || ethernet->type_be != to_be16(ETHERTYPE_IPV6))
		return NULL;
	return ip;
}

/*
 * The next place in the pool, once the packet before is done with: reading the clock waits for everything that was begun
 * (rdtsc_ordered on x86). Between packets of a card there is a driver's work; here there is none, and the CPU would look
 * up the next source while it still waits for the last one's entry, the more of them the shorter a program is.
 */
static __always_inline __u32 next_index(void)
{
	__u32 zero = 0;
	__u32 *next = position.lookup(&zero);

	bpf_ktime_get_ns();
	return next ? (*next)++ & (POOL - 1) : 0;
}

int drive4(struct xdp_md *context)
{
	struct ipv4_header *ip = ipv4_of(context);
	__u32 index = next_index();
	__be32 *source_be = pool4.lookup(&index);

	if (!ip || !source_be)
		return XDP_ABORTED;
	ip->source_be = *source_be;
	contender.call(context, 0);
	return XDP_ABORTED;
}

int drive6(struct xdp_md *context)
{
	struct ipv6_header *ip = ipv6_of(context);
	__u32 index = next_index();
	struct ipv6_address *source = pool6.lookup(&index);

	if (!ip || !source)
		return XDP_ABORTED;
	ip->source = *source;
	contender.call(context, 0);
	return XDP_ABORTED;
}

int contend_pass(struct xdp_md *context)
{
	return XDP_PASS;
}

int contend_drop(struct xdp_md *context)
{
	return XDP_DROP;
}

static __always_inline int counted(struct xdp_md *context, struct counters *entry)
{
	if (!entry)
		return XDP_PASS;
	__sync_fetch_and_add(&entry->packets, 1);
	__sync_fetch_and_add(&entry->bytes, context->data_end - context->data);
	entry->last_seen_ns = bpf_ktime_get_coarse_ns();
	return XDP_DROP;
}

int contend_plain(struct xdp_md *context)
{
	struct ipv4_header *ip = ipv4_of(context);
	__be32 source_be;

	if (!ip)
		return XDP_PASS;
	source_be = ip->source_be;
	return counted(context, plain4.lookup(&source_be));
}

int contend_trie(struct xdp_md *context)
{
	struct ipv4_header *ip = ipv4_of(context);
	struct trie_key key = { .length_bits = 32 };

	if (!ip)
		return XDP_PASS;
	key.address_be = ip->source_be;
	return counted(context, trie4.lookup(&key));
}

int contend_plain6(struct xdp_md *context)
{
	struct ipv6_header *ip = ipv6_of(context);
	struct ipv6_address source;

	if (!ip)
		return XDP_PASS;
	source = ip->source;
	return counted(context, plain6.lookup(&source));
}

int contend_trie6(struct xdp_md *context)
{
	struct ipv6_header *ip = ipv6_of(context);
	struct trie_key6 key = { .length_bits = 128 };

	if (!ip)
		return XDP_PASS;
	key.address = ip->source;
	return counted(context, trie6.lookup(&key));
}

static __always_inline int sent(void)
{
	__u32 zero = 0;
	__u32 *ifindex = outlet.lookup(&zero);

	return ifindex ? bpf_redirect(*ifindex, 0) : XDP_ABORTED;
}

int generate(struct xdp_md *context)
{
	return sent();
}

int generate_many(struct xdp_md *context)
{
	struct ipv4_header *ip = ipv4_of(context);
	__u32 zero = 0;
	__u32 *next = position.lookup(&zero);
	__be32 *source_be;
	__u32 index;

	if (!ip || !next)
		return XDP_ABORTED;
	index = (*next)++ & (POOL - 1);
	source_be = pool4.lookup(&index);
	if (!source_be)
		return XDP_ABORTED;
	ip->source_be = *source_be;
	return sent();
}
