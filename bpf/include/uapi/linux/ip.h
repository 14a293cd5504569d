/* The fixed part of an IPv4 header (RFC 791, section 3.1). */
#ifndef XDROP_UAPI_LINUX_IP_H
#define XDROP_UAPI_LINUX_IP_H
#include <linux/types.h>

struct ipv4_header {
	__u8 before_length[2];
	__be16 length_bytes_be; /* of header and payload; 0 for more than it can say (Linux, "BIG TCP") */
	__u8 before_source[8];
	__be32 source_be;
	__be32 destination_be;
};

#endif
