/* The fixed IPv6 header (RFC 8200, section 3). */
#ifndef XDROP_UAPI_LINUX_IPV6_H
#define XDROP_UAPI_LINUX_IPV6_H
#include <linux/types.h>

struct ipv6_address {
	union {
		__be32 words_be[4];
		__be64 halves_be[2]; /* as which it is copied */
	};
};

struct ipv6_header {
	__u8 before_length[4];
	__be16 payload_bytes_be; /* 0 also for a jumbogram (RFC 2675) */
	__u8 protocol; /* of what follows, which may be another header of IPv6 */
	__u8 before_source;
	struct ipv6_address source;
	struct ipv6_address destination;
};

#endif
