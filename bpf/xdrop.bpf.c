// SPDX-License-Identifier: GPL-2.0-only
/*
 * xdrop: drop every frame whose IP source address is on the list.
 *
 * The verdict
 *   1. Up to four VLAN tags are stepped over; a fifth is not looked into, the frame passes. Then a PPPoE header is, if IP
 *      follows. On devices without Ethernet (tunnels, PPP) a frame starts with its IP header.
 *   2. A frame too short for the header it announces is MALFORMED.
 *   3. Neither IPv4 nor IPv6: PASSED.
 *   4. The source address, and nothing else in the packet, decides between DROPPED and PASSED. Where it is listed by
 *      sources that monitor only, the frame PASSED, and is counted for its entry.
 *   5. Where the settings say so, what would be dropped is a REPLY, and passes, if it belongs to a connection of this host's
 *      own: see the section on replies below.
 *
 * The programs
 *   xdrop_root      what the driver knows. It never changes; it jumps to the program in force.
 *   xdrop_verdict   the program in force, one for all interfaces: parse, decide, count. What passes goes on to the
 *                   program in next_program, somebody else's, if there is one.
 *
 * The lookup
 *   Innocent packets must not pay for the length of the list. So hints, small enough for the CPU's cache, tell most
 *   innocent sources that nothing of theirs is listed: a filter of addresses, and an overview of where networks are.
 *   Only behind them come the exact answers: a hash of addresses, and a hash of prefixes that is asked for the lengths
 *   that occur near the source, longest first. A hint may send a source on for nothing; it never hides a listed one.
 *
 * Who writes what
 *   Counters are written here, atomically where CPUs share them. Everything else is written by the daemon alone,
 *   in an order that passes no packet of a source that is listed before and after (see plan.py); hints through mmap(2),
 *   by the same arithmetic as below (see hints.py), for which a filter's bits are set before what they lead to is there.
 *   FITTED maps are created by the daemon in the size that the list needs.
 */
#include <uapi/linux/if_ether.h>
#include <uapi/linux/ip.h>
#include <uapi/linux/ipv6.h>
#include <linux/stddef.h>
#include <asm/byteorder.h>

#define MAX_VLAN_TAGS 4
#define ORDINARY_BYTES 1536 /* of a frame for an MTU of 1500; a longer one may go on in fragments whatever it announces */
#define FITTED 1

/* ---- What the kernel side and the daemon share ---- */

/* What becomes of a frame; the index of its counters. */
enum verdict { PASSED, DROPPED, MALFORMED, REPLIES, VERDICTS };

/* Frames and bytes. */
struct volume {
	__u64 packets;
	__u64 bytes;
};

/* What is known of one entry. `source` numbers the file or caller that the entry came from; in a record, with MONITORS. */
struct stats {
	__u64 packets;
	__u64 bytes;
	__u64 last_seen_ns; /* CLOCK_MONOTONIC, coarse; 0: never */
	__u32 since_s;      /* CLOCK_REALTIME */
	__u32 source;       /* EXEMPT: not an entry, its addresses pass */
};

/* The source of a prefix that passes although a wider one is listed. */
#define EXEMPT 0

/* Beside the number of a source in a record: its addresses pass, and are counted. */
#define MONITORS (1U << 31)

/*
 * A prefix: a network with its own stats, an exempt prefix, or a piece of the range with this number, which counts there.
 */
struct network {
	struct stats stats;
	__u32 range; /* 0: no piece of a range */
	__u32 unused;
};

/*
 * A range: its stats, and its first and last address (an IPv4 address in the first four bytes). Or what is selected of a
 * database, of both families, with its code in the first eight bytes, in network byte order.
 */
struct range {
	struct stats stats;
	__u8 first[16];
	__u8 last[16];
	__u32 version; /* 4 or 6, or 46 of a selection; 0: the number is free */
	__u32 unused;
};

/*
 * Keys of IPv4: numbers of 64 bits, of an address its own, of a prefix its first address and below it the netmask. The
 * kernel's hash compares eight bytes at once, and fewer one by one (memcmp in lib/string.c). They are one 8-byte store:
 * two 4-byte stores before an 8-byte load defeat store-to-load forwarding.
 */
#define ADDRESS_KEY(address) to_be64((__u64)(address))
#define PREFIX_KEY(address, mask) to_be64((__u64)(address) << 32 | (__u32)(mask))

/* A prefix: its first address, and its netmask. */
struct prefix6 {
	struct ipv6_address address;
	struct ipv6_address mask;
};

/*
 * A set of prefix lengths, one bit each, for every 32 bits of an address: a length is the lowest bit of its netmask. So
 * the longest of a set is its lowest bit, and minus that bit is the netmask again. In a __u64, /0 is bit 32.
 */
struct lengths6 {
	__u32 words[4];
};

/*
 * Netmasks of less than /13 (IPv6: /20) are wide; of the others, those of less than /32 are middling in IPv6. Nothing here
 * reads NARROW4: the daemon goes by the same number (_WIDE_BELOW in hints.py), and test_abi.py compares the two.
 */
#define NARROW4 0xfff80000
#define NARROW6 0xfffff000

/*
 * Where networks are, seen from afar. Wide ones by the /12s that they touch, with all their lengths together. Others by
 * granules, whose lengths are in lengths4 and lengths6: IPv4 /16s; IPv6 /32s, and /20s for the middling.
 */
#define SLASH12S (1 << 12)
#define GRANULES (1 << 16)

struct overview {
	__u64 wide_lengths;
	__u64 slash12s[SLASH12S / 64];
	__u64 granules[GRANULES / 64];
};

struct hints {
	struct overview ipv4;
	struct overview ipv6;
};

/*
 * Numbers that the daemon puts into the instructions when it loads a program for a generation, so that no packet has to
 * read them: the sizes of the filters, powers of two, less one; and whether replies pass, 1 or 0. The verifier leaves out
 * what a 0 makes unreachable. To bcc they are descriptors of an unknown kind.
 */
enum fitted_number { LAST_ADDRESS_WORD, LAST_PREFIX_WORD, PASS_REPLIES };
#define FITTED_NUMBER 15
#define fitted(number) bpf_pseudo_fd(FITTED_NUMBER, number)

struct settings {
	__u64 log_interval_ns; /* one sampled drop per interval at most; 0: none */
	__u32 monitor;         /* count what would be dropped, drop nothing */
	__u32 pass_malformed;
};

/* What one CPU has seen on one interface, and the clock as it last looked: CLOCK_MONOTONIC, coarse, in jiffy `tick`. */
struct seen {
	struct volume volumes[VERDICTS];
	__u64 tick;
	__u64 now_ns;
	__u32 ifindex; /* whose slot this is; 0: nobody's */
	__u32 starts_with_ip; /* its packets do, without Ethernet */
};

/* Interfaces have a slot by the low bits of their index. Where two would share one, the second goes into a hash. */
#define SLOTS 1024
#define SLOTS_BEHIND 1024

/* One dropped packet in a sample. IPv4 sources stand in the first four bytes. */
struct sample {
	__u8 source[16];
	__u32 version; /* 4 or 6 */
	__u32 ifindex;
	__u32 length_bytes;
	__u32 unused;
};

/* ---- The map of one interface: it lives as long as the attachment ---- */

/* The program in force, in slot 0. Written by the daemon; the kernel makes each write one atomic step. */
BPF_PROG_ARRAY(in_force, 1);

/* ---- Maps that outlive generations: all interfaces share them ---- */

/* What each interface has seen. A slot is given out by the daemon, which writes its `ifindex`, and counted in here. */
BPF_PERCPU_ARRAY(interfaces, struct seen, SLOTS);
BPF_PERCPU_HASH(more_interfaces, __u32, struct seen, SLOTS_BEHIND);

/* Settings, one slot. Replaced whole by the daemon at any time. */
BPF_ARRAY(settings, struct settings, 1);

/*
 * The program that passed packets go on to, in slot 0; mostly there is none. The index being a constant, the kernel
 * writes the jump into the instructions, and without a program there is nothing to look up.
 */
BPF_PROG_ARRAY(next_program, 1);

/* The next moment at which a drop may be sampled. */
BPF_ARRAY(next_sample_ns, __u64, 1);

/* Samples on their way to the log. Full: further ones are lost, which is what a sample is for. */
BPF_QUEUE(samples, struct sample, 64);

/* ---- Maps of one generation ---- */

/*
 * Listed addresses: the exact answer. Entries are added and removed in place, and have their room from the start. With
 * BPF_F_NO_PREALLOC, and twice the buckets for what that saves, a flood from a million of them is dropped a tenth
 * faster; but then the kernel may refuse an entry while there is memory (ENOMEM), for it waits for none there.
 */
BPF_HASH(addresses4, __be64, struct stats, FITTED);
BPF_HASH(addresses6, struct ipv6_address, struct stats, FITTED);

/* Networks, pieces of ranges, and exempt prefixes. Added and removed in place. */
BPF_HASH(networks4, __be64, struct network, FITTED);
BPF_HASH(networks6, struct prefix6, struct network, FITTED);

/* Ranges by number; 0 stays unused. Written before a piece points to it. */
BPF_ARRAY(ranges, struct range, FITTED);

/* Dropped frames and bytes by source number. */
BPF_PERCPU_ARRAY(sources, struct volume, FITTED);

/* The rest are hints on where to look, written through mmap(2). Bits are only ever set; a new generation has none. */
#define MAPPED BPF_F_MMAPABLE
BPF_F_TABLE("array", __u32, struct hints, hints, 1, MAPPED);

/* Blocked Bloom filters: three bits in one word for each listed address, and for each prefix. */
BPF_F_TABLE("array", __u32, __u64, address_filter, FITTED, MAPPED);
BPF_F_TABLE("array", __u32, __u64, prefix_filter, FITTED, MAPPED);

/* The lengths of the prefixes in a granule. */
BPF_F_TABLE("array", __u32, __u64, lengths4, GRANULES, MAPPED);
BPF_F_TABLE("array", __u32, struct lengths6, lengths6, GRANULES, MAPPED);

/* Compiler barrier: LLVM (19) drops a bounds mask that it thinks redundant, and the verifier still needs it. */
static __always_inline __u64 opaque(__u64 value)
{
	asm volatile("" : "+r"(value));
	return value;
}

/*
 * The same, where the compiler would make one of two reads: to the verifier, which refuses a read of what is a pointer of
 * one kind here and of another there ("same insn cannot be used with different pointers"), they have to stay two.
 */
#define KEEP_APART(value, number) asm volatile("" : "+r"(value) : "i"(number))

/* ---- The cursor: every read checks its own bounds ---- */

struct cursor {
	void *position;
	void *end;
};

static __always_inline struct cursor at_start_of(struct xdp_md *context)
{
	return (struct cursor){
		.position = (void *)(long)context->data,
		.end = (void *)(long)context->data_end,
	};
}

/* The next `size` bytes, or NULL where the packet is shorter. */
static __always_inline void *take(struct cursor *cursor, __u32 size)
{
	void *taken = cursor->position;

	if (taken + size > cursor->end)
		return NULL;
	cursor->position = taken + size;
	return taken;
}

/* ---- Where a frame comes from ---- */

#define TRUNCATED (-1)

/* All that the verdict needs to know of a frame. */
struct origin {
	int type;                   /* an EtherType, or TRUNCATED */
	int has_more;               /* it may go on behind `data_end`, in fragments */
	struct ipv6_address source; /* an IPv4 address is its first word */
};

static __always_inline int is_vlan(int type)
{
	return type == ETHERTYPE_8021Q || type == ETHERTYPE_8021AD;
}

/* PPP's number of a protocol as an EtherType; of no other than IP it makes a difference which one it is. */
static __always_inline int type_in_ppp(int protocol)
{
	return protocol == PPP_IPV4 ? ETHERTYPE_IPV4 : protocol == PPP_IPV6 ? ETHERTYPE_IPV6 : ETHERTYPE_PPPOE;
}

/* Step over the Ethernet header, and tags and PPPoE behind it. The EtherType of what follows, or TRUNCATED. */
static __always_inline int take_ethernet(struct cursor *cursor)
{
	struct ethhdr *ethernet = take(cursor, sizeof(*ethernet));
	int type;

	if (!ethernet)
		return TRUNCATED;
	type = from_be16(ethernet->type_be);
#pragma unroll
	for (int tags = 0; tags < MAX_VLAN_TAGS; tags++) {
		struct vlan_tag *tag;

		if (!is_vlan(type))
			break;
		tag = take(cursor, sizeof(*tag));
		if (!tag)
			return TRUNCATED;
		type = from_be16(tag->type_be);
	}
	if (type == ETHERTYPE_PPPOE) {
		struct pppoe_header *pppoe = take(cursor, sizeof(*pppoe));

		if (!pppoe)
			return TRUNCATED;
		type = type_in_ppp(from_be16(pppoe->protocol_be));
	}
	return type;
}

/* The EtherType of a packet that starts with its IP header, by the first byte, which has the version. */
static __always_inline int type_of_ip(__u8 first)
{
	return first >> 4 == 4 ? ETHERTYPE_IPV4 : first >> 4 == 6 ? ETHERTYPE_IPV6 : 0;
}

static __always_inline int type_of_packet(struct cursor cursor)
{
	__u8 *first = take(&cursor, sizeof(*first));

	return first ? type_of_ip(*first) : TRUNCATED;
}

/* A length in a header. The mask is for the verifier of Linux 6.1, to which swapped bytes may be any number. */
static __always_inline __u32 length_in(__be16 field_be)
{
	return opaque(from_be16(field_be)) & 0xffff;
}

static __always_inline void take_ipv4(struct cursor *cursor, struct origin *origin)
{
	struct ipv4_header *ip = take(cursor, sizeof(*ip));
	__u32 length_bytes;

	if (!ip) {
		origin->type = TRUNCATED;
		return;
	}
	length_bytes = length_in(ip->length_bytes_be);
	origin->has_more = !length_bytes || (void *)ip + length_bytes > cursor->end;
	origin->source.words_be[0] = ip->source_be;
}

static __always_inline void take_ipv6(struct cursor *cursor, struct origin *origin)
{
	struct ipv6_header *ip = take(cursor, sizeof(*ip));
	__u32 payload_bytes;

	if (!ip) {
		origin->type = TRUNCATED;
		return;
	}
	payload_bytes = length_in(ip->payload_bytes_be);
	origin->has_more = !payload_bytes || cursor->position + payload_bytes > cursor->end;
	origin->source = ip->source;
}

static __always_inline void read_origin(struct xdp_md *context, int starts_with_ip, struct origin *origin)
{
	struct cursor cursor = at_start_of(context);

	origin->type = starts_with_ip ? type_of_packet(cursor) : take_ethernet(&cursor);
	origin->has_more = 1;
	if (origin->type == ETHERTYPE_IPV4)
		take_ipv4(&cursor, origin);
	else if (origin->type == ETHERTYPE_IPV6)
		take_ipv6(&cursor, origin);
}

/* The EtherType in the last bytes of a header that ends there, or TRUNCATED. */
static __always_inline int fetch_type(struct xdp_md *context, __u32 end)
{
	__be16 type_be;

	return bpf_xdp_load_bytes(context, end - sizeof(type_be), &type_be, sizeof(type_be)) ? TRUNCATED :
											       from_be16(type_be);
}

/*
 * As take_ethernet or type_of_packet, for a frame with headers in its fragments, where `data_end` does not reach and the
 * kernel fetches them. `at` becomes the place of what follows.
 * (mlx5 with a large MTU keeps all of a frame there: mlx5e_skb_from_cqe_mpwrq_nonlinear in its en_rx.c.)
 */
static __always_inline int fetch_headers(struct xdp_md *context, int starts_with_ip, __u32 *at)
{
	int type;

	*at = 0;
	if (starts_with_ip) {
		__u8 first;

		return bpf_xdp_load_bytes(context, 0, &first, sizeof(first)) ? TRUNCATED : type_of_ip(first);
	}
	*at = sizeof(struct ethhdr);
	type = fetch_type(context, *at);
#pragma unroll
	for (int tags = 0; tags < MAX_VLAN_TAGS; tags++) {
		if (!is_vlan(type))
			break;
		*at += sizeof(struct vlan_tag);
		type = fetch_type(context, *at);
	}
	if (type == ETHERTYPE_PPPOE) {
		*at += sizeof(struct pppoe_header);
		type = fetch_type(context, *at);
		if (type != TRUNCATED)
			type = type_in_ppp(type);
	}
	return type;
}

/* As read_origin, for such a frame. */
static __always_inline void fetch_origin(struct xdp_md *context, int starts_with_ip, __u32 length_bytes,
					 struct origin *origin)
{
	__u32 at;
	int type = fetch_headers(context, starts_with_ip, &at);

	if (type == ETHERTYPE_IPV4) {
		if (length_bytes < at + sizeof(struct ipv4_header) ||
		    bpf_xdp_load_bytes(context, at + offsetof(struct ipv4_header, source_be), &origin->source,
				       sizeof(__be32)))
			return;
	} else if (type == ETHERTYPE_IPV6) {
		if (length_bytes < at + sizeof(struct ipv6_header) ||
		    bpf_xdp_load_bytes(context, at + offsetof(struct ipv6_header, source), &origin->source,
				       sizeof(struct ipv6_address)))
			return;
	}
	origin->type = type;
}

/* ---- The hints: the only place that knows how an address finds its bits ---- */

/* Multiplicative hashing (Knuth, TAOCP 6.4): the good bits are the upper ones. Two multipliers, for independence. */
#define HASH_FOR_WORD 0x9e3779b97f4a7c15ULL
#define HASH_FOR_BITS 0xbf58476d1ce4e5b9ULL

/*
 * A question to a filter: are these bits set in this word? One word, so that the answer costs one read.
 * Putze, Sanders, Singler: Cache-, Hash- and Space-Efficient Bloom Filters, 2007.
 */
struct question {
	__u32 word;
	__u64 bits;
};

static __always_inline struct question ask(__u64 value)
{
	__u64 hash = value * HASH_FOR_BITS;

	return (struct question){
		.word = value * HASH_FOR_WORD >> 40,
		.bits = 1ULL << (hash >> 58) | 1ULL << (hash >> 52 & 63) | 1ULL << (hash >> 46 & 63),
	};
}

static __always_inline __u64 folded(const struct ipv6_address *address)
{
	__u64 upper = (__u64)address->words_be[0] << 32 | address->words_be[1];
	__u64 lower = (__u64)address->words_be[2] << 32 | address->words_be[3];

	return (upper * HASH_FOR_WORD ^ lower) * HASH_FOR_BITS ^ lower >> 32;
}

static __always_inline struct question ask_address6(const struct ipv6_address *address)
{
	return ask(folded(address));
}

static __always_inline struct question ask_prefix6(const struct prefix6 *prefix)
{
	return ask(folded(&prefix->address) + folded(&prefix->mask));
}

static __always_inline __u64 *address_word(const struct question *question)
{
	__u32 index = question->word & fitted(LAST_ADDRESS_WORD);

	return address_filter.lookup(&index);
}

static __always_inline __u64 *prefix_word(const struct question *question)
{
	__u32 index = question->word & fitted(LAST_PREFIX_WORD);

	return prefix_filter.lookup(&index);
}

static __always_inline int yes(const struct question *question, const __u64 *word)
{
	return word && (*word & question->bits) == question->bits;
}

/* An index that the verifier can see to be in bounds, where the compiler would leave the mask out as needless. */
static __always_inline __u32 below(__u32 power_of_two, __u32 index)
{
	return opaque(index) & (power_of_two - 1);
}

/* The lengths of the wide prefixes that may hold an address, by its first 32 bits; 0 for most addresses. */
static __always_inline __u64 wide_lengths(const struct overview *overview, __u32 top)
{
	__u32 slash12 = below(SLASH12S, top >> 20);

	return overview->slash12s[slash12 >> 6] >> (slash12 & 63) & 1 ? overview->wide_lengths : 0;
}

static __always_inline __u32 granule4(__u32 address)
{
	return address >> 16;
}

/* The granule of a /32, or of a /20 if only the bits of NARROW6 are left of it. */
static __always_inline __u32 granule6(__u32 top)
{
	return top * (__u32)(HASH_FOR_WORD >> 32) >> 16;
}

static __always_inline int has_networks(const struct overview *overview, __u32 granule)
{
	__u32 index = below(GRANULES, granule);

	return overview->granules[index >> 6] >> (index & 63) & 1;
}

/* The lengths in a granule, or NULL for most granules. */
static __always_inline __u64 *lengths_near4(const struct overview *overview, __u32 granule)
{
	return has_networks(overview, granule) ? lengths4.lookup(&granule) : NULL;
}

static __always_inline struct lengths6 *lengths_near6(const struct overview *overview, __u32 granule)
{
	return has_networks(overview, granule) ? lengths6.lookup(&granule) : NULL;
}

/* ---- The decision ---- */

/* What an address is listed by: the stats of an entry, and its source as the record has it; NULL where there is none. */
struct entry {
	struct stats *stats;
	__u32 source;
};

#define NO_ENTRY ((struct entry){ .stats = NULL, .source = EXEMPT })

/* The entry that a prefix stands for; none where there is no prefix, or an exempt one. */
static __always_inline struct entry entry_of(struct network *network)
{
	struct range *range;
	__u32 number;

	if (!network || network->stats.source == EXEMPT)
		return NO_ENTRY;
	number = network->range;
	if (!number)
		return (struct entry){ .stats = &network->stats, .source = network->stats.source };
	range = ranges.lookup(&number);
	return (struct entry){ .stats = range ? &range->stats : NULL, .source = network->stats.source };
}

/*
 * Longest prefix first: the first one found decides. NULL if there is none. `lengths` are those of struct lengths6
 * for one word; an IPv4 address has only one.
 */
static __always_inline struct network *find_network4(__u32 source, __u64 lengths)
{
	for (int tried = 0; tried <= 32 && lengths; tried++) {
		__u32 mask = -(lengths & -lengths);
		__be64 key_be = PREFIX_KEY(source & mask, mask);
		struct question question = ask(key_be);

		lengths &= lengths - 1;
		if (yes(&question, prefix_word(&question))) {
			struct network *network = networks4.lookup(&key_be);

			if (network)
				return network;
		}
	}
	return NULL;
}

static __always_inline struct network *find_network6(const struct ipv6_address *source, int word, __u64 lengths)
{
	struct prefix6 prefix = {};

#pragma unroll
	for (int before = 0; before < word; before++) {
		prefix.mask.words_be[before] = ~0U;
		prefix.address.words_be[before] = source->words_be[before];
	}
	for (int tried = 0; tried <= 32 && lengths; tried++) {
		__be32 mask_be = to_be32(-(lengths & -lengths));
		struct question question;

		lengths &= lengths - 1;
		prefix.mask.words_be[word] = mask_be;
		prefix.address.words_be[word] = source->words_be[word] & mask_be;
		question = ask_prefix6(&prefix);
		if (yes(&question, prefix_word(&question))) {
			struct network *network = networks6.lookup(&prefix);

			if (network)
				return network;
		}
	}
	return NULL;
}

static __always_inline struct entry find4(__u32 source)
{
	struct question question = ask(source);
	__be64 key_be = ADDRESS_KEY(source);
	__u64 *narrow;
	__u32 zero = 0;
	struct hints *known;
	__u64 lengths;

	if (yes(&question, address_word(&question))) {
		struct stats *stats = addresses4.lookup(&key_be);

		if (stats)
			return (struct entry){ .stats = stats, .source = stats->source };
	}
	known = hints.lookup(&zero);
	if (!known)
		return NO_ENTRY;
	lengths = wide_lengths(&known->ipv4, source);
	narrow = lengths_near4(&known->ipv4, granule4(source));
	if (narrow)
		lengths |= *narrow;
	return entry_of(find_network4(source, lengths));
}

static __always_inline struct entry find6(struct ipv6_address *source)
{
	__u32 top = from_be32(source->words_be[0]), zero = 0;
	struct question question = ask_address6(source);
	struct lengths6 *near;
	struct hints *known;
	__u64 lengths;

	if (yes(&question, address_word(&question))) {
		struct stats *stats = addresses6.lookup(source);

		if (stats)
			return (struct entry){ .stats = stats, .source = stats->source };
	}
	known = hints.lookup(&zero);
	if (!known)
		return NO_ENTRY;
	lengths = wide_lengths(&known->ipv6, top);
	near = lengths_near6(&known->ipv6, granule6(top & NARROW6));
	if (near)
		lengths |= near->words[0];
	near = lengths_near6(&known->ipv6, granule6(top));
	if (near) {
#pragma unroll
		for (int word = 3; word > 0; word--) {
			struct network *network = find_network6(source, word, near->words[word]);

			if (network)
				return entry_of(network);
		}
		lengths |= near->words[0];
	}
	return entry_of(find_network6(source, 0, lengths));
}

/* ---- Replies ---- */

/*
 * Of what would be dropped, packets of TCP and UDP whose addresses and ports are those of a connected socket of this host,
 * in the namespace of the device, where nothing listens on its local port: this host opened the connection. Fragments are
 * none, nor is IPv6 with extension headers, nor whatever else has no ports behind its IP header.
 *
 * All of it is fetched, as by fetch_origin: the headers may be in fragments of the frame, and a packet that passes anyway
 * does not pay for a place that would have to be remembered.
 */

/* The addresses and ports of an IPv4 packet. Its protocol, or 0 where it has no ports to speak of. */
static __always_inline int fetch_tuple4(struct xdp_md *context, __u32 at, struct bpf_sock_tuple *tuple)
{
	struct ipv4_header ip;
	__u32 header_bytes;

	if (bpf_xdp_load_bytes(context, at, &ip, sizeof(ip)))
		return 0;
	header_bytes = (ip.version_and_words & 0xf) * sizeof(__u32);
	if (header_bytes < sizeof(ip) || ip.fragment_be & to_be16(IPV4_IS_FRAGMENT))
		return 0;
	tuple->ipv4.saddr = ip.source_be;
	tuple->ipv4.daddr = ip.destination_be;
	if (bpf_xdp_load_bytes(context, at + header_bytes, &tuple->ipv4.sport, 2 * sizeof(tuple->ipv4.sport)))
		return 0;
	return ip.protocol;
}

/* The same of an IPv6 packet: both addresses and the ports stand behind each other, as in the tuple. */
static __always_inline int fetch_tuple6(struct xdp_md *context, __u32 at, struct bpf_sock_tuple *tuple)
{
	__u8 protocol;

	if (bpf_xdp_load_bytes(context, at + offsetof(struct ipv6_header, protocol), &protocol, sizeof(protocol)) ||
	    bpf_xdp_load_bytes(context, at + offsetof(struct ipv6_header, source), &tuple->ipv6, sizeof(tuple->ipv6)))
		return 0;
	return protocol;
}

/*
 * The state of the socket that gets packets with these addresses and ports, one that is connected to their source before
 * any other; 0 for none. An unconnected socket of UDP is in BPF_TCP_CLOSE.
 */
static __always_inline int state_of_socket(struct xdp_md *context, int protocol, struct bpf_sock_tuple *tuple, __u32 size)
{
	struct bpf_sock *socket;
	int state = 0;

	if (protocol == PROTOCOL_TCP) {
		socket = bpf_skc_lookup_tcp(context, tuple, size, BPF_F_CURRENT_NETNS, 0);
		if (socket) {
			state = socket->state;
			KEEP_APART(state, PROTOCOL_TCP);
			bpf_sk_release(socket);
		}
	} else if (protocol == PROTOCOL_UDP) {
		socket = bpf_sk_lookup_udp(context, tuple, size, BPF_F_CURRENT_NETNS, 0);
		if (socket) {
			state = socket->state;
			KEEP_APART(state, PROTOCOL_UDP);
			bpf_sk_release(socket);
		}
	}
	return state;
}

/* Whether a socket in this state has one peer: it takes neither connections, nor the rest of a handshake, nor datagrams. */
static __always_inline int is_connected(int state)
{
	return state && state != BPF_TCP_LISTEN && state != BPF_TCP_NEW_SYN_RECV && state != BPF_TCP_CLOSE;
}

/*
 * Nobody is connected to the unspecified address and port 0: with these for the source, what is found on the local port
 * waits for anybody. A flood is over after the first search: it finds nobody, or who waits.
 */
static __always_inline int is_reply(struct xdp_md *context, int starts_with_ip)
{
	struct bpf_sock_tuple tuple;
	__u32 at;
	int protocol, type = fetch_headers(context, starts_with_ip, &at);

	if (type == ETHERTYPE_IPV4) {
		protocol = fetch_tuple4(context, at, &tuple);
		if (!is_connected(state_of_socket(context, protocol, &tuple, sizeof(tuple.ipv4))))
			return 0;
		tuple.ipv4.saddr = tuple.ipv4.sport = 0;
		return !state_of_socket(context, protocol, &tuple, sizeof(tuple.ipv4));
	}
	protocol = fetch_tuple6(context, at, &tuple);
	if (!is_connected(state_of_socket(context, protocol, &tuple, sizeof(tuple.ipv6))))
		return 0;
	__builtin_memset(tuple.ipv6.saddr, 0, sizeof(tuple.ipv6.saddr));
	tuple.ipv6.sport = 0;
	return !state_of_socket(context, protocol, &tuple, sizeof(tuple.ipv6));
}

/* ---- Counting ---- */

/* What this CPU has seen on the interface that a frame came in on. */
static __always_inline struct seen *seen_on(__u32 ifindex)
{
	__u32 slot = below(SLOTS, ifindex);
	struct seen *seen = interfaces.lookup(&slot);

	return seen && seen->ifindex == ifindex ? seen : more_interfaces.lookup(&ifindex);
}

static __always_inline void count(struct seen *seen, enum verdict verdict, __u64 length_bytes)
{
	if (seen) {
		seen->volumes[verdict].packets++;
		seen->volumes[verdict].bytes += length_bytes;
	}
}

/*
 * See that `now_ns` is the time. Whether it is another than at the last look: the coarse clock moves once a jiffy, and
 * reading the jiffy costs nothing, where asking for the time costs more than counting.
 */
static __always_inline int look_at_clock(struct seen *seen)
{
	__u64 tick = bpf_jiffies64();

	if (seen->tick == tick)
		return 0;
	seen->now_ns = bpf_ktime_get_coarse_ns();
	seen->tick = tick;
	return 1;
}

/* What is shared comes last: a locked addition holds up whatever follows, while the entry is still on its way here. */
static __always_inline void credit(const struct entry *entry, __u64 length_bytes, __u64 now_ns)
{
	__u32 number = entry->source & ~MONITORS;
	struct volume *source = sources.lookup(&number);

	if (source) {
		source->packets++;
		source->bytes += length_bytes;
	}
	entry->stats->last_seen_ns = now_ns;
	__sync_fetch_and_add(&entry->stats->packets, 1);
	__sync_fetch_and_add(&entry->stats->bytes, length_bytes);
}

/* Whether a drop may be sampled now. Two CPUs may both be told yes; the daemon holds the log to its rate. */
static __always_inline int sample_is_due(__u64 interval_ns, __u64 now_ns)
{
	__u32 zero = 0;
	__u64 *next_ns;

	if (!interval_ns)
		return 0;
	next_ns = next_sample_ns.lookup(&zero);
	if (!next_ns || now_ns < *next_ns)
		return 0;
	*next_ns = now_ns + interval_ns;
	return 1;
}

/* ---- The programs ---- */

int xdrop_root(struct xdp_md *context)
{
	in_force.call(context, 0);
	return XDP_PASS;
}

static __always_inline int pass(struct seen *seen, enum verdict verdict, __u64 length_bytes)
{
	count(seen, verdict, length_bytes);
	return XDP_PASS;
}

static __always_inline int malformed(struct seen *seen, __u64 length_bytes)
{
	__u32 zero = 0;
	struct settings *chosen = settings.lookup(&zero);

	count(seen, MALFORMED, length_bytes);
	return chosen && (chosen->monitor || chosen->pass_malformed) ? XDP_PASS : XDP_DROP;
}

static __always_inline void sample(struct xdp_md *context, const struct origin *origin, __u32 length_bytes)
{
	struct sample sample = {
		.version = origin->type == ETHERTYPE_IPV4 ? 4 : 6,
		.ifindex = context->ingress_ifindex,
		.length_bytes = length_bytes,
	};

	__builtin_memcpy(sample.source, &origin->source, sizeof(sample.source));
	samples.push(&sample, 0);
}

/* A frame that passes, and is counted for the entry that would have it dropped if its source did not only monitor. */
static __always_inline int monitored(struct seen *seen, const struct entry *entry, __u32 length_bytes)
{
	if (seen) {
		look_at_clock(seen);
		credit(entry, length_bytes, seen->now_ns);
	}
	return pass(seen, PASSED, length_bytes);
}

static __always_inline int drop(struct xdp_md *context, struct seen *seen, const struct entry *entry,
				const struct origin *origin, __u32 length_bytes)
{
	__u32 zero = 0;
	struct settings *chosen = settings.lookup(&zero);
	int is_later;

	count(seen, DROPPED, length_bytes);
	if (!chosen)
		return XDP_DROP;
	if (!seen) /* such as on a port that a bond has just got: it has no slot yet */
		return chosen->monitor ? XDP_PASS : XDP_DROP;
	is_later = look_at_clock(seen);
	credit(entry, length_bytes, seen->now_ns);
	if (is_later && sample_is_due(chosen->log_interval_ns, seen->now_ns)) /* else it was not due before either */
		sample(context, origin, length_bytes);
	return chosen->monitor ? XDP_PASS : XDP_DROP;
}

static __always_inline int verdict_on(struct xdp_md *context)
{
	struct seen *seen = seen_on(context->ingress_ifindex);
	int starts_with_ip = seen && seen->starts_with_ip;
	struct origin origin = {};
	__u32 length_bytes = context->data_end - context->data;
	struct entry entry = NO_ENTRY;

	read_origin(context, starts_with_ip, &origin);
	if (origin.has_more || length_bytes > ORDINARY_BYTES) {
		__u32 linear_bytes = length_bytes;

		length_bytes = bpf_xdp_get_buff_len(context); /* not for every frame: the call costs more than the verdict */
		if (origin.type == TRUNCATED && length_bytes > linear_bytes)
			fetch_origin(context, starts_with_ip, length_bytes, &origin);
	}
	if (origin.type == TRUNCATED)
		return malformed(seen, length_bytes);
	if (origin.type == ETHERTYPE_IPV4)
		entry = find4(from_be32(origin.source.words_be[0]));
	else if (origin.type == ETHERTYPE_IPV6)
		entry = find6(&origin.source);
	if (!entry.stats)
		return pass(seen, PASSED, length_bytes);
	if (entry.source & MONITORS)
		return monitored(seen, &entry, length_bytes);
	if (fitted(PASS_REPLIES) && is_reply(context, starts_with_ip))
		return pass(seen, REPLIES, length_bytes);
	return drop(context, seen, &entry, &origin, length_bytes);
}

int xdrop_verdict(struct xdp_md *context)
{
	int action = verdict_on(context);

	if (action == XDP_PASS)
		next_program.call(context, 0); /* it comes back only where there is none */
	return action;
}
