// SPDX-License-Identifier: GPL-2.0-only
/*
 * xdrop: drop every Ethernet frame whose IP source address is on the list.
 *
 * The verdict
 *   1. Up to four VLAN tags are stepped over; a fifth is not looked into, the frame passes.
 *   2. A frame too short for the header it announces is MALFORMED.
 *   3. Neither IPv4 nor IPv6: PASSED.
 *   4. The source address, and nothing else in the packet, decides between DROPPED and PASSED.
 *
 * The programs
 *   xdrop_root      what the driver knows. It never changes; it jumps to the program in force.
 *   xdrop_verdict   the program in force: parse, decide, count.
 *   xdrop_mark      run by the daemon, never by a packet: sets the bits that send a source on to the full lookup.
 *   xdrop_carry     run by the daemon, never by a packet: adds counts of a retired generation to the one in force.
 *
 * The lookup
 *   Innocent packets must not pay for the length of the list. So hints, small enough for the CPU's cache, tell most
 *   innocent sources that nothing of theirs is listed: a filter of addresses, and an overview of where networks are.
 *   Only behind them come the exact answers: a hash of addresses, and a hash of prefixes that is asked for the lengths
 *   that occur near the source, longest first. A hint may send a source on for nothing; it never hides a listed one.
 *
 * Who writes what
 *   Counters are written here, atomically where CPUs share them. Everything else is written by the daemon alone,
 *   in an order that passes no packet of a source that is listed before and after (see plan.py).
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
enum verdict { PASSED, DROPPED, MALFORMED, VERDICTS };

/* Frames and bytes. */
struct volume {
	__u64 packets;
	__u64 bytes;
};

/* What is known of one entry. `source` numbers the file or caller that the entry came from. */
struct history {
	__u64 packets;
	__u64 bytes;
	__u64 last_seen_ns; /* CLOCK_MONOTONIC, coarse; 0: never */
	__u32 since_s;      /* CLOCK_REALTIME */
	__u32 source;
};

/* A network or range: its history, and its first and last address (an IPv4 address in the first four bytes). */
struct cell {
	struct history history;
	__u8 first[16];
	__u8 last[16];
	__u32 version; /* 4 or 6; 0: the cell is free */
	__u32 unused;
};

/*
 * Keys of IPv4: numbers of 64 bits, of an address its own, of a prefix its first address and below it the netmask. The
 * kernel's hash compares eight bytes at once, and fewer one by one (memcmp in lib/string.c). They are also written at
 * once: a read of bytes that were written in parts waits until the CPU has put away all that was written before.
 */
#define ADDRESS_KEY(address) to_be64((__u64)(address))
#define PREFIX_KEY(address, mask) to_be64((__u64)(address) << 32 | (__u32)(mask))

/* A prefix: its first address, and its netmask. */
struct prefix4 {
	__be32 address_be;
	__be32 mask_be;
};

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

/* Netmasks of less than /13 (IPv6: /20) are wide; of the others, those of less than /32 are middling in IPv6. */
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
 * read them: the sizes of the filters, powers of two, less one. To bcc they are descriptors of an unknown kind.
 */
enum fitted_number { LAST_ADDRESS_WORD, LAST_PREFIX_WORD };
#define FITTED_NUMBER 15
#define fitted(number) bpf_pseudo_fd(FITTED_NUMBER, number)

/* The cell of a prefix that passes although a wider one is listed. */
#define EXEMPT 0

struct settings {
	__u64 log_interval_ns; /* one sampled drop per interval at most; 0: none */
	__u32 monitor;         /* count what would be dropped, drop nothing */
	__u32 pass_malformed;
};

/* What one CPU has seen on one interface, and the clock as it last looked: CLOCK_MONOTONIC, coarse, in jiffy `tick`. */
struct tally {
	struct volume volumes[VERDICTS];
	__u64 tick;
	__u64 now_ns;
};

/* One dropped packet in a sample. IPv4 sources stand in the first four bytes. */
struct sample {
	__u8 source[16];
	__u32 version; /* 4 or 6 */
	__u32 ifindex;
	__u32 length_bytes;
	__u32 cell; /* of the network or range that was hit; 0: an address */
};

/* ---- Maps of one interface: they live as long as the attachment ---- */

/* The program in force, in slot 0. Written by the daemon; the kernel makes each write one atomic step. */
BPF_PROG_ARRAY(in_force, 1);

/* What this interface has seen, one cell. Each interface's program has a map of its own here. Written here alone. */
BPF_PERCPU_ARRAY(tallies, struct tally, 1);

/* ---- Maps that all interfaces and generations share ---- */

/* Settings, one cell. Replaced whole by the daemon at any time. */
BPF_ARRAY(settings, struct settings, 1);

/* The next moment at which a drop may be sampled. */
BPF_ARRAY(next_sample_ns, __u64, 1);

/* Samples on their way to the log. Full: further ones are lost, which is what a sample is for. */
BPF_QUEUE(samples, struct sample, 64);

/* ---- Maps of one generation ---- */

/* Listed addresses: the exact answer. Entries are added and removed in place. */
BPF_HASH(addresses4, __be64, struct history, FITTED);
BPF_HASH(addresses6, struct ipv6_address, struct history, FITTED);

/* Prefixes of networks and ranges, and exempt prefixes: the number of a cell. Added and removed in place. */
BPF_HASH(networks4, __be64, __u32, FITTED);
BPF_HASH(networks6, struct prefix6, __u32, FITTED);

/* Networks and ranges, by number; 0 is EXEMPT and stays unused. Written before a prefix points to it. */
BPF_ARRAY(cells, struct cell, FITTED);

/* Dropped frames and bytes by source number. */
BPF_PERCPU_ARRAY(sources, struct volume, FITTED);

/* The rest are hints on where to look. Bits are only ever set; a new generation starts with none. */
BPF_ARRAY(hints, struct hints, 1);

/* Blocked Bloom filters: three bits in one word for each listed address, and for each prefix. */
BPF_ARRAY(address_filter, __u64, FITTED);
BPF_ARRAY(prefix_filter, __u64, FITTED);

/* The lengths of the prefixes in a granule. */
BPF_ARRAY(lengths4, __u32, GRANULES);
BPF_ARRAY(lengths6, struct lengths6, GRANULES);

/*
 * A value that the compiler knows nothing of. What it can prove it leaves out, and what it counts it counts anew (LLVM 19
 * up to an overflow); the verifier, which has to see the same bounds in what comes of it, then does not.
 */
static __always_inline __u64 opaque(__u64 value)
{
	asm volatile("" : "+r"(value));
	return value;
}

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

/* Step over the Ethernet header and the tags behind it. The EtherType of what follows, or TRUNCATED. */
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
	return type;
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

static __always_inline void read_origin(struct xdp_md *context, struct origin *origin)
{
	struct cursor cursor = at_start_of(context);

	origin->type = take_ethernet(&cursor);
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
 * As read_origin, for a frame with headers in its fragments, where `data_end` does not reach and the kernel fetches them.
 * (mlx5 with a large MTU keeps all of a frame there: mlx5e_skb_from_cqe_mpwrq_nonlinear in its en_rx.c.)
 */
static __always_inline void fetch_origin(struct xdp_md *context, __u32 length_bytes, struct origin *origin)
{
	__u32 at = sizeof(struct ethhdr);
	int type = fetch_type(context, at);

#pragma unroll
	for (int tags = 0; tags < MAX_VLAN_TAGS; tags++) {
		if (!is_vlan(type))
			break;
		at += sizeof(struct vlan_tag);
		type = fetch_type(context, at);
	}
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
static __always_inline __u32 *lengths_near4(const struct overview *overview, __u32 granule)
{
	return has_networks(overview, granule) ? lengths4.lookup(&granule) : NULL;
}

static __always_inline struct lengths6 *lengths_near6(const struct overview *overview, __u32 granule)
{
	return has_networks(overview, granule) ? lengths6.lookup(&granule) : NULL;
}

/* ---- The decision ---- */

/* Who listed the source of this packet: a history to count in, and the cell if it is a network's. */
struct hit {
	struct history *history;
	__u32 cell;
};

static __always_inline struct hit in_cell(const __u32 *number)
{
	struct cell *cell;
	__u32 index;

	if (!number || *number == EXEMPT)
		return (struct hit){};
	index = *number;
	cell = cells.lookup(&index);
	if (!cell)
		return (struct hit){};
	return (struct hit){ .history = &cell->history, .cell = index };
}

/*
 * Longest prefix first: the first one found decides. Its cell's number, or NULL. `lengths` are those of struct lengths6
 * for one word; an IPv4 address has only one.
 */
static __always_inline __u32 *find_network4(__u32 source, __u64 lengths)
{
	for (int tried = 0; tried <= 32 && lengths; tried++) {
		__u32 mask = -(lengths & -lengths);
		__be64 key_be = PREFIX_KEY(source & mask, mask);
		struct question question = ask(key_be);

		lengths &= lengths - 1;
		if (yes(&question, prefix_word(&question))) {
			__u32 *cell = networks4.lookup(&key_be);

			if (cell)
				return cell;
		}
	}
	return NULL;
}

static __always_inline __u32 *find_network6(const struct ipv6_address *source, int word, __u64 lengths)
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
			__u32 *cell = networks6.lookup(&prefix);

			if (cell)
				return cell;
		}
	}
	return NULL;
}

static __always_inline struct hit find4(__u32 source)
{
	struct question question = ask(source);
	__be64 key_be = ADDRESS_KEY(source);
	__u32 *narrow, zero = 0;
	struct hints *known;
	__u64 lengths;

	if (yes(&question, address_word(&question))) {
		struct history *history = addresses4.lookup(&key_be);

		if (history)
			return (struct hit){ .history = history };
	}
	known = hints.lookup(&zero);
	if (!known)
		return (struct hit){};
	lengths = wide_lengths(&known->ipv4, source);
	narrow = lengths_near4(&known->ipv4, granule4(source));
	if (narrow)
		lengths |= *narrow;
	return in_cell(find_network4(source, lengths));
}

static __always_inline struct hit find6(struct ipv6_address *source)
{
	__u32 top = from_be32(source->words_be[0]), zero = 0;
	struct question question = ask_address6(source);
	struct lengths6 *near;
	struct hints *known;
	__u64 lengths;

	if (yes(&question, address_word(&question))) {
		struct history *history = addresses6.lookup(source);

		if (history)
			return (struct hit){ .history = history };
	}
	known = hints.lookup(&zero);
	if (!known)
		return (struct hit){};
	lengths = wide_lengths(&known->ipv6, top);
	near = lengths_near6(&known->ipv6, granule6(top & NARROW6));
	if (near)
		lengths |= near->words[0];
	near = lengths_near6(&known->ipv6, granule6(top));
	if (near) {
#pragma unroll
		for (int word = 3; word > 0; word--) {
			__u32 *cell = find_network6(source, word, near->words[word]);

			if (cell)
				return in_cell(cell);
		}
		lengths |= near->words[0];
	}
	return in_cell(find_network6(source, 0, lengths));
}

/* ---- Counting ---- */

static __always_inline struct tally *count(enum verdict verdict, __u64 length_bytes)
{
	__u32 zero = 0;
	struct tally *tally = tallies.lookup(&zero);

	if (tally) {
		tally->volumes[verdict].packets++;
		tally->volumes[verdict].bytes += length_bytes;
	}
	return tally;
}

/*
 * See that `now_ns` is the time. Whether it is another than at the last look: the coarse clock moves once a jiffy, and
 * reading the jiffy costs nothing, where asking for the time costs more than counting.
 */
static __always_inline int look_at_clock(struct tally *tally)
{
	__u64 tick = bpf_jiffies64();

	if (tally->tick == tick)
		return 0;
	tally->now_ns = bpf_ktime_get_coarse_ns();
	tally->tick = tick;
	return 1;
}

/* What is shared comes last: a locked addition holds up whatever follows, while the entry is still on its way here. */
static __always_inline void credit(struct history *history, __u64 length_bytes, __u64 now_ns)
{
	__u32 number = history->source;
	struct volume *source = sources.lookup(&number);

	if (source) {
		source->packets++;
		source->bytes += length_bytes;
	}
	history->last_seen_ns = now_ns;
	__sync_fetch_and_add(&history->packets, 1);
	__sync_fetch_and_add(&history->bytes, length_bytes);
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

/* ---- The programs that packets meet ---- */

int xdrop_root(struct xdp_md *context)
{
	in_force.call(context, 0);
	return XDP_PASS;
}

static __always_inline int pass(__u64 length_bytes)
{
	count(PASSED, length_bytes);
	return XDP_PASS;
}

static __always_inline int malformed(__u64 length_bytes)
{
	__u32 zero = 0;
	struct settings *chosen = settings.lookup(&zero);

	count(MALFORMED, length_bytes);
	return chosen && (chosen->monitor || chosen->pass_malformed) ? XDP_PASS : XDP_DROP;
}

static __always_inline void sample(struct xdp_md *context, const struct hit *hit, const struct origin *origin,
				   __u32 length_bytes)
{
	struct sample sample = {
		.version = origin->type == ETHERTYPE_IPV4 ? 4 : 6,
		.ifindex = context->ingress_ifindex,
		.length_bytes = length_bytes,
		.cell = hit->cell,
	};

	__builtin_memcpy(sample.source, &origin->source, sizeof(sample.source));
	samples.push(&sample, 0);
}

static __always_inline int drop(struct xdp_md *context, const struct hit *hit, const struct origin *origin,
				__u32 length_bytes)
{
	__u32 zero = 0;
	struct tally *tally = count(DROPPED, length_bytes);
	struct settings *chosen = settings.lookup(&zero);
	int is_later;

	if (!tally || !chosen)
		return XDP_DROP;
	is_later = look_at_clock(tally);
	credit(hit->history, length_bytes, tally->now_ns);
	if (is_later && sample_is_due(chosen->log_interval_ns, tally->now_ns)) /* else it was not due before either */
		sample(context, hit, origin, length_bytes);
	return chosen->monitor ? XDP_PASS : XDP_DROP;
}

int xdrop_verdict(struct xdp_md *context)
{
	struct origin origin = {};
	__u32 length_bytes = context->data_end - context->data;
	struct hit hit = {};

	read_origin(context, &origin);
	if (origin.has_more || length_bytes > ORDINARY_BYTES) {
		__u32 linear_bytes = length_bytes;

		length_bytes = bpf_xdp_get_buff_len(context); /* not for every frame: the call costs more than the verdict */
		if (origin.type == TRUNCATED && length_bytes > linear_bytes)
			fetch_origin(context, length_bytes, &origin);
	}
	if (origin.type == TRUNCATED)
		return malformed(length_bytes);
	if (origin.type == ETHERTYPE_IPV4)
		hit = find4(from_be32(origin.source.words_be[0]));
	else if (origin.type == ETHERTYPE_IPV6)
		hit = find6(&origin.source);
	if (hit.history)
		return drop(context, &hit, &origin, length_bytes);
	return pass(length_bytes);
}

/* ---- The programs that the daemon runs (BPF_PROG_TEST_RUN): orders come as a packet ---- */

/* Every order starts with which kind it is; XDP_PASS says that all of it was carried out. */
struct order {
	__u32 kind;
	__u32 unused[3]; /* the kernel wants test packets of at least an Ethernet header */
};

/*
 * Orders to mark, to the end of the packet. Addresses: as keys, 8 or 16 bytes each.
 * Networks: one prefix for each /12 that it touches if it is wide, else for each granule: `address` in there, and the
 * prefix's own mask. How many at most: the verifier walks through each repetition.
 */
enum { MARK_ADDRESSES4, MARK_ADDRESSES6, MARK_NETWORKS4, MARK_NETWORKS6 };
#define ADDRESSES_AT_MOST 64
#define NETWORKS_AT_MOST 16

static __always_inline void mark(__u64 *word, const struct question *question)
{
	if (word)
		*word |= question->bits;
}

/* The bit of a length; bit 32 for a mask of 0. */
static __always_inline __u64 lowest_bit(__u32 mask)
{
	__u64 marked = 1ULL << 32 | mask;

	return marked & -marked;
}

static __always_inline void mark_address4(const __be64 *key_be)
{
	struct question question = ask(from_be64(*key_be));

	mark(address_word(&question), &question);
}

static __always_inline void mark_address6(const struct ipv6_address *address)
{
	struct question question = ask_address6(address);

	mark(address_word(&question), &question);
}

static __always_inline void mark_wide(struct overview *overview, __u32 top, __u32 mask)
{
	__u32 slash12 = below(SLASH12S, top >> 20);

	overview->slash12s[slash12 >> 6] |= 1ULL << (slash12 & 63);
	overview->wide_lengths |= lowest_bit(mask);
}

static __always_inline void mark_granule(struct overview *overview, __u32 granule)
{
	__u32 index = below(GRANULES, granule);

	overview->granules[index >> 6] |= 1ULL << (index & 63);
}

static __always_inline void mark_network4(struct hints *known, const struct prefix4 *place)
{
	__u32 mask = from_be32(place->mask_be), address = from_be32(place->address_be), granule = granule4(address);
	struct question question = ask(PREFIX_KEY(address & mask, mask));
	__u32 *narrow;

	mark(prefix_word(&question), &question);
	if (mask < NARROW4) {
		mark_wide(&known->ipv4, address, mask);
		return;
	}
	mark_granule(&known->ipv4, granule);
	narrow = lengths4.lookup(&granule);
	if (narrow)
		*narrow |= lowest_bit(mask);
}

static __always_inline void mark_network6(struct hints *known, const struct prefix6 *place)
{
	__u32 mask = from_be32(place->mask.words_be[0]), top = from_be32(place->address.words_be[0]);
	__u32 granule = granule6(mask == ~0U ? top : top & NARROW6);
	struct question question;
	struct lengths6 *lengths;
	struct prefix6 prefix;

#pragma unroll
	for (int word = 0; word < 4; word++) {
		prefix.mask.words_be[word] = place->mask.words_be[word];
		prefix.address.words_be[word] = place->address.words_be[word] & place->mask.words_be[word];
	}
	question = ask_prefix6(&prefix);
	mark(prefix_word(&question), &question);
	if (mask < NARROW6) {
		mark_wide(&known->ipv6, top, mask);
		return;
	}
	mark_granule(&known->ipv6, granule);
	lengths = lengths6.lookup(&granule);
	if (!lengths)
		return;
#pragma unroll
	for (int word = 0; word < 4; word++) {
		__u32 next = word < 3 ? from_be32(prefix.mask.words_be[word + 1]) : 0;
		__u32 ends_here = (next >> 31) - 1; /* all ones unless the mask goes on, with a 1 */

		lengths->words[word] |= lowest_bit(from_be32(prefix.mask.words_be[word])) & ends_here;
	}
}

int xdrop_mark(struct xdp_md *context)
{
	struct cursor cursor = at_start_of(context);
	struct order *order = take(&cursor, sizeof(*order));
	__u32 zero = 0;
	struct hints *known = hints.lookup(&zero);

	if (!order || !known)
		return XDP_ABORTED;
	if (order->kind == MARK_ADDRESSES4) {
		for (__u64 i = 0; i < ADDRESSES_AT_MOST; i = opaque(i + 1)) {
			__be64 *key_be = take(&cursor, sizeof(*key_be));

			if (!key_be)
				break;
			mark_address4(key_be);
		}
	} else if (order->kind == MARK_ADDRESSES6) {
		for (__u64 i = 0; i < ADDRESSES_AT_MOST; i = opaque(i + 1)) {
			struct ipv6_address *address = take(&cursor, sizeof(*address));

			if (!address)
				break;
			mark_address6(address);
		}
	} else if (order->kind == MARK_NETWORKS4) {
		for (__u64 i = 0; i < NETWORKS_AT_MOST; i = opaque(i + 1)) {
			struct prefix4 *place = take(&cursor, sizeof(*place));

			if (!place)
				break;
			mark_network4(known, place);
		}
	} else {
		for (__u64 i = 0; i < NETWORKS_AT_MOST; i = opaque(i + 1)) {
			struct prefix6 *place = take(&cursor, sizeof(*place));

			if (!place)
				break;
			mark_network6(known, place);
		}
	}
	return cursor.position == cursor.end ? XDP_PASS : XDP_ABORTED;
}

/* Orders to carry hold what is to be added to entries, to the end of the packet. */
enum { CARRY_ADDRESSES4, CARRY_ADDRESSES6, CARRY_CELLS, CARRY_SOURCES };
#define CARRIES_AT_MOST 80

struct carry {
	__u8 key[16]; /* an address as a key, or a number in host byte order */
	__u64 packets;
	__u64 bytes;
	__u64 last_seen_ns;
};

static __always_inline void add_to(struct history *history, const struct carry *carry)
{
	if (!history)
		return;
	__sync_fetch_and_add(&history->packets, carry->packets);
	__sync_fetch_and_add(&history->bytes, carry->bytes);
	if (history->last_seen_ns < carry->last_seen_ns)
		history->last_seen_ns = carry->last_seen_ns;
}

int xdrop_carry(struct xdp_md *context)
{
	struct cursor cursor = at_start_of(context);
	struct order *order = take(&cursor, sizeof(*order));
	__u32 kind;

	if (!order)
		return XDP_ABORTED;
	kind = order->kind;
	for (__u64 i = 0; i < CARRIES_AT_MOST; i = opaque(i + 1)) {
		struct carry *carry = take(&cursor, sizeof(*carry));
		struct ipv6_address key;
		__u32 number;

		if (!carry)
			break;
		__builtin_memcpy(&key, carry->key, sizeof(key));
		number = key.words_be[0];
		if (kind == CARRY_ADDRESSES4) {
			add_to(addresses4.lookup(&key.halves_be[0]), carry);
		} else if (kind == CARRY_ADDRESSES6) {
			add_to(addresses6.lookup(&key), carry);
		} else if (kind == CARRY_CELLS) {
			struct cell *cell = cells.lookup(&number);

			if (cell)
				add_to(&cell->history, carry);
		} else {
			struct volume *source = sources.lookup(&number);

			if (source) {
				source->packets += carry->packets;
				source->bytes += carry->bytes;
			}
		}
	}
	return cursor.position == cursor.end ? XDP_PASS : XDP_ABORTED;
}
