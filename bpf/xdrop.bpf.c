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
 *   Innocent packets must not pay for the length of the list. So a filter, small enough for the CPU's cache, tells most
 *   innocent sources with one read: nothing of yours is listed. Only behind it come the exact answers: a hash of
 *   addresses, and a hash of prefixes that is asked for the lengths that occur near the source, longest first.
 *   A hint may send a source on for nothing; it never hides a listed one.
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
 * The prefix lengths that occur somewhere, as a set of bits for each 32 bits of an address. A length is the lowest bit
 * of its netmask, so the longest of a set is its lowest bit, and minus that bit is the netmask again. /0 is bit 32.
 */
struct lengths6 {
	__u32 words[4];
};

/* Prefixes shorter than /13 (IPv6: /20) are too wide for the other hints: which /12s they touch, and their lengths. */
#define NARROW4 0xfff80000
#define NARROW6 0xfffff000

struct wide {
	__u64 slash12[64];
	__u64 lengths;
};

/* The cell of a prefix that passes although a wider one is listed. */
#define EXEMPT 0

struct settings {
	__u64 log_interval_ns; /* one sampled drop per interval at most; 0: none */
	__u32 monitor;         /* count what would be dropped, drop nothing */
	__u32 pass_malformed;
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

/* What this interface has seen, by verdict. Each interface's program has a map of its own here. */
BPF_PERCPU_ARRAY(totals, struct volume, VERDICTS);

/* ---- Maps that all interfaces and generations share ---- */

/* Settings, one cell. Replaced whole by the daemon at any time. */
BPF_ARRAY(settings, struct settings, 1);

/* The next moment at which a drop may be sampled. */
BPF_ARRAY(next_sample_ns, __u64, 1);

/* Samples on their way to the log. Full: further ones are lost, which is what a sample is for. */
BPF_QUEUE(samples, struct sample, 64);

/* ---- Maps of one generation ---- */

/* Listed addresses: the exact answer. Entries are added and removed in place. */
BPF_HASH(addresses4, __be32, struct history, FITTED);
BPF_HASH(addresses6, struct ipv6_address, struct history, FITTED);

/* Prefixes of networks and ranges, and exempt prefixes: the number of a cell. Added and removed in place. */
BPF_HASH(networks4, struct prefix4, __u32, FITTED);
BPF_HASH(networks6, struct prefix6, __u32, FITTED);

/* Networks and ranges, by number; 0 is EXEMPT and stays unused. Written before a prefix points to it. */
BPF_ARRAY(cells, struct cell, FITTED);

/* Dropped frames and bytes by source number. */
BPF_PERCPU_ARRAY(sources, struct volume, FITTED);

/* The rest are hints on where to look. Bits are only ever set; a new generation starts with none. */

/* A blocked Bloom filter: three bits in one word for each listed address, and for each /24 or /32 with a network. */
BPF_ARRAY(filter, __u64, FITTED);

/* The number of words in the filter, a power of two, less one. */
BPF_ARRAY(filter_mask, __u32, 1);

/* Wide prefixes: IPv4 in slot 0, IPv6 in slot 1. */
BPF_ARRAY(wide, struct wide, 2);

/* For each IPv4 /16: the lengths of the narrow prefixes that lie in it or hold it. */
BPF_ARRAY(lengths4, __u32, 1 << 16);

/* For each value of a hash of the IPv6 /32: the lengths of the narrow prefixes that lie in it or hold it. */
BPF_ARRAY(lengths6, struct lengths6, 1 << 16);

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

#define TRUNCATED (-1)

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

/* ---- The hints: the only place that knows how an address finds its bits ---- */

/*
 * A question to the filter: are these bits set in this word? One word holds both questions on an IPv4 source, so that
 * an innocent one costs one read. Putze, Sanders, Singler: Cache-, Hash- and Space-Efficient Bloom Filters, 2007.
 */
struct question {
	__u32 word;
	__u64 address_bits;
	__u64 network_bits;
};

/* Multiplicative hashing (Knuth, TAOCP 6.4): the good bits are the upper ones. Two multipliers, for independence. */
#define HASH_FOR_WORD 0x9e3779b97f4a7c15ULL
#define HASH_FOR_BITS 0xbf58476d1ce4e5b9ULL

static __always_inline __u64 three_bits(__u64 value)
{
	__u64 hash = value * HASH_FOR_BITS;

	return 1ULL << (hash >> 58) | 1ULL << (hash >> 52 & 63) | 1ULL << (hash >> 46 & 63);
}

static __always_inline __u32 word_for(__u64 value)
{
	return value * HASH_FOR_WORD >> 40;
}

static __always_inline struct question ask4(__be32 address_be)
{
	__u32 address = from_be32(address_be), slash24 = address >> 8;

	return (struct question){
		.word = word_for(slash24),
		.address_bits = three_bits(address),
		.network_bits = three_bits(slash24),
	};
}

/* Addresses crowd in few /32s, so their word depends on the /64; networks are asked for apart. */
static __always_inline struct question ask6_for_addresses(const struct ipv6_address *address)
{
	__u64 upper = (__u64)address->words_be[0] << 32 | address->words_be[1];
	__u64 lower = (__u64)address->words_be[2] << 32 | address->words_be[3];

	return (struct question){ .word = word_for(upper), .address_bits = three_bits(upper ^ lower * HASH_FOR_WORD) };
}

static __always_inline struct question ask6_for_networks(const struct ipv6_address *address)
{
	__u64 slash32 = address->words_be[0];

	return (struct question){ .word = word_for(slash32), .network_bits = three_bits(slash32) };
}

static __always_inline __u64 *word_of_filter(const struct question *question)
{
	__u32 zero = 0, index;
	__u32 *mask = filter_mask.lookup(&zero);

	if (!mask)
		return NULL;
	index = question->word & *mask;
	return filter.lookup(&index);
}

static __always_inline __u64 answer(const struct question *question)
{
	__u64 *word = word_of_filter(question);

	return word ? *word : 0;
}

static __always_inline int holds(__u64 word, __u64 bits)
{
	return (word & bits) == bits;
}

static __always_inline struct wide *wide_prefixes(__u32 slot)
{
	return wide.lookup(&slot);
}

/* The lengths of the wide prefixes that may hold an address, by its first 32 bits; 0 for most addresses. */
static __always_inline __u64 wide_lengths(__u32 slot, __u32 top)
{
	struct wide *prefixes = wide_prefixes(slot);

	if (!prefixes || !(prefixes->slash12[top >> 26] >> (top >> 20 & 63) & 1))
		return 0;
	return prefixes->lengths;
}

static __always_inline __u32 *lengths_near4(__be32 address_be)
{
	__u32 slash16 = from_be32(address_be) >> 16;

	return lengths4.lookup(&slash16);
}

static __always_inline struct lengths6 *lengths_near6(const struct ipv6_address *address)
{
	__u32 index = (__u32)(address->words_be[0] * (__u32)HASH_FOR_WORD) >> 16;

	return lengths6.lookup(&index);
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
static __always_inline __u32 *find_network4(__be32 source_be, __u64 lengths)
{
	for (int tried = 0; tried <= 32 && lengths; tried++) {
		struct prefix4 prefix = { .mask_be = to_be32(-(lengths & -lengths)) };
		__u32 *cell;

		prefix.address_be = source_be & prefix.mask_be;
		cell = networks4.lookup(&prefix);
		if (cell)
			return cell;
		lengths &= lengths - 1;
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
		__u32 *cell;

		prefix.mask.words_be[word] = mask_be;
		prefix.address.words_be[word] = source->words_be[word] & mask_be;
		cell = networks6.lookup(&prefix);
		if (cell)
			return cell;
		lengths &= lengths - 1;
	}
	return NULL;
}

static __always_inline struct hit find4(__be32 source_be)
{
	struct question question = ask4(source_be);
	__u64 word = answer(&question), lengths = wide_lengths(0, from_be32(source_be));

	if (holds(word, question.address_bits)) {
		struct history *history = addresses4.lookup(&source_be);

		if (history)
			return (struct hit){ .history = history };
	}
	if (holds(word, question.network_bits)) {
		__u32 *narrow = lengths_near4(source_be);

		if (narrow)
			lengths |= *narrow;
	}
	return in_cell(find_network4(source_be, lengths));
}

static __always_inline struct hit find6(struct ipv6_address *source)
{
	struct question question = ask6_for_addresses(source);
	__u64 lengths = wide_lengths(1, from_be32(source->words_be[0]));

	if (holds(answer(&question), question.address_bits)) {
		struct history *history = addresses6.lookup(source);

		if (history)
			return (struct hit){ .history = history };
	}
	question = ask6_for_networks(source);
	if (holds(answer(&question), question.network_bits)) {
		struct lengths6 *narrow = lengths_near6(source);

		if (narrow) {
#pragma unroll
			for (int word = 3; word > 0; word--) {
				__u32 *cell = find_network6(source, word, narrow->words[word]);

				if (cell)
					return in_cell(cell);
			}
			lengths |= narrow->words[0];
		}
	}
	return in_cell(find_network6(source, 0, lengths));
}

/* ---- Counting ---- */

static __always_inline void credit(struct history *history, __u64 length_bytes, __u64 now_ns)
{
	__u32 number = history->source;
	struct volume *source = sources.lookup(&number);

	__sync_fetch_and_add(&history->packets, 1);
	__sync_fetch_and_add(&history->bytes, length_bytes);
	history->last_seen_ns = now_ns;
	if (source) {
		source->packets++;
		source->bytes += length_bytes;
	}
}

static __always_inline void count(enum verdict verdict, __u64 length_bytes)
{
	__u32 index = verdict;
	struct volume *total = totals.lookup(&index);

	if (total) {
		total->packets++;
		total->bytes += length_bytes;
	}
}

/* Whether a drop may be sampled now. Two CPUs may both be told yes; the daemon holds the log to its rate. */
static __always_inline int sample_is_due(__u64 interval_ns, __u64 now_ns)
{
	__u32 zero = 0;
	__u64 *next_ns = next_sample_ns.lookup(&zero);

	if (!next_ns || !interval_ns || now_ns < *next_ns)
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

/* `source` is of 4 or 16 bytes, as `version` says. */
static __always_inline int drop(struct xdp_md *context, const struct hit *hit, __u32 version, const void *source,
				__u32 length_bytes)
{
	__u32 zero = 0;
	__u64 now_ns = bpf_ktime_get_coarse_ns();
	struct settings *chosen = settings.lookup(&zero);

	credit(hit->history, length_bytes, now_ns);
	count(DROPPED, length_bytes);
	if (!chosen)
		return XDP_DROP;
	if (sample_is_due(chosen->log_interval_ns, now_ns)) {
		struct sample sample = {
			.version = version,
			.ifindex = context->ingress_ifindex,
			.length_bytes = length_bytes,
			.cell = hit->cell,
		};

		__builtin_memcpy(sample.source, source, version == 4 ? 4 : 16);
		samples.push(&sample, 0);
	}
	return chosen->monitor ? XDP_PASS : XDP_DROP;
}

int xdrop_verdict(struct xdp_md *context)
{
	struct cursor cursor = at_start_of(context);
	__u32 length_bytes = bpf_xdp_get_buff_len(context); /* with the fragments, which `data_end` does not reach */
	int type = take_ethernet(&cursor);

	if (type == TRUNCATED)
		return malformed(length_bytes);

	if (type == ETHERTYPE_IPV4) {
		struct ipv4_header *ip = take(&cursor, sizeof(*ip));
		__be32 source_be;
		struct hit hit;

		if (!ip)
			return malformed(length_bytes);
		source_be = ip->source_be;
		hit = find4(source_be);
		if (hit.history)
			return drop(context, &hit, 4, &source_be, length_bytes);
	}

	if (type == ETHERTYPE_IPV6) {
		struct ipv6_header *ip = take(&cursor, sizeof(*ip));
		struct ipv6_address source;
		struct hit hit;

		if (!ip)
			return malformed(length_bytes);
		source = ip->source;
		hit = find6(&source);
		if (hit.history)
			return drop(context, &hit, 6, &source, length_bytes);
	}

	return pass(length_bytes);
}

/* ---- The programs that the daemon runs (BPF_PROG_TEST_RUN): orders come as a packet ---- */

/* Every order starts with which kind it is; XDP_PASS says that all of it was carried out. */
struct order {
	__u32 kind;
	__u32 unused[3]; /* the kernel wants test packets of at least an Ethernet header */
};

/*
 * Orders to mark, to the end of the packet. Addresses: in network byte order, 4 or 16 bytes each.
 * Networks: one prefix for each /24 (/32 for IPv6) that it touches, `address` in there, with the prefix's own mask;
 * for wide ones, one for each /12.
 */
enum { MARK_ADDRESSES4, MARK_ADDRESSES6, MARK_NETWORKS4, MARK_NETWORKS6 };
#define MARKS_AT_MOST 96

static __always_inline void set_address_bits(const struct question *question)
{
	__u64 *word = word_of_filter(question);

	if (word)
		*word |= question->address_bits;
}

static __always_inline void set_network_bits(const struct question *question)
{
	__u64 *word = word_of_filter(question);

	if (word)
		*word |= question->network_bits;
}

static __always_inline void mark_wide(__u32 slot, __u32 top, __u32 mask)
{
	struct wide *prefixes = wide_prefixes(slot);

	if (!prefixes)
		return;
	prefixes->slash12[top >> 26] |= 1ULL << (top >> 20 & 63);
	prefixes->lengths |= mask ? mask & -mask : 1ULL << 32;
}

static __always_inline void mark_network4(const struct prefix4 *prefix)
{
	struct question question = ask4(prefix->address_be);
	__u32 mask = from_be32(prefix->mask_be);
	__u32 *narrow;

	if (mask < NARROW4) {
		mark_wide(0, from_be32(prefix->address_be), mask);
		return;
	}
	set_network_bits(&question);
	narrow = lengths_near4(prefix->address_be);
	if (narrow)
		*narrow |= mask & -mask;
}

static __always_inline void mark_network6(const struct prefix6 *prefix)
{
	struct question question = ask6_for_networks(&prefix->address);
	__u32 mask = from_be32(prefix->mask.words_be[0]);
	struct lengths6 *narrow;

	if (mask < NARROW6) {
		mark_wide(1, from_be32(prefix->address.words_be[0]), mask);
		return;
	}
	set_network_bits(&question);
	narrow = lengths_near6(&prefix->address);
	if (!narrow)
		return;
#pragma unroll
	for (int word = 0; word < 4; word++) {
		mask = from_be32(prefix->mask.words_be[word]);
		if (word == 3 || !prefix->mask.words_be[word + 1]) {
			narrow->words[word] |= mask & -mask;
			return;
		}
	}
}

int xdrop_mark(struct xdp_md *context)
{
	struct cursor cursor = at_start_of(context);
	struct order *order = take(&cursor, sizeof(*order));
	__u32 kind;

	if (!order)
		return XDP_ABORTED;
	kind = order->kind;
	for (int i = 0; i < MARKS_AT_MOST; i++) {
		if (kind == MARK_ADDRESSES4) {
			__be32 *address_be = take(&cursor, sizeof(*address_be));
			struct question question;

			if (!address_be)
				break;
			question = ask4(*address_be);
			set_address_bits(&question);
		} else if (kind == MARK_ADDRESSES6) {
			struct ipv6_address *address = take(&cursor, sizeof(*address));
			struct question question;

			if (!address)
				break;
			question = ask6_for_addresses(address);
			set_address_bits(&question);
		} else if (kind == MARK_NETWORKS4) {
			struct prefix4 *prefix = take(&cursor, sizeof(*prefix));

			if (!prefix)
				break;
			mark_network4(prefix);
		} else {
			struct prefix6 *prefix = take(&cursor, sizeof(*prefix));

			if (!prefix)
				break;
			mark_network6(prefix);
		}
	}
	return cursor.position == cursor.end ? XDP_PASS : XDP_ABORTED;
}

/* Orders to carry hold what is to be added to entries, to the end of the packet. */
enum { CARRY_ADDRESSES4, CARRY_ADDRESSES6, CARRY_CELLS, CARRY_SOURCES };
#define CARRIES_AT_MOST 80

struct carry {
	__u8 key[16]; /* an address, or a number in host byte order */
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
	for (int i = 0; i < CARRIES_AT_MOST; i++) {
		struct carry *carry = take(&cursor, sizeof(*carry));
		struct ipv6_address key;
		__u32 number;

		if (!carry)
			break;
		__builtin_memcpy(&key, carry->key, sizeof(key));
		number = key.words_be[0];
		if (kind == CARRY_ADDRESSES4) {
			add_to(addresses4.lookup(&number), carry);
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
