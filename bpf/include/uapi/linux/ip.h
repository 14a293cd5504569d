/* The fixed part of an IPv4 header (RFC 791, section 3.1). */
#ifndef XDROP_UAPI_LINUX_IP_H
#define XDROP_UAPI_LINUX_IP_H
#include <linux/types.h>

struct ipv4_header {
	__u8 version_and_words; /* four bits each: the version, and how many 32-bit words the header has */
	__u8 before_length;
	__be16 length_bytes_be; /* of header and payload; 0 for more than it can say (Linux, "BIG TCP") */
	__u8 before_fragment[2];
	__be16 fragment_be; /* flags, and the place in the whole packet */
	__u8 before_protocol;
	__u8 protocol;
	__u8 before_source[2];
	__be32 source_be;
	__be32 destination_be;
};

#define IPV4_IS_FRAGMENT 0x3fff /* more are to come, or some came before */

#define PROTOCOL_TCP 6 /* RFC 9293 */
#define PROTOCOL_UDP 17 /* RFC 768 */

#endif
