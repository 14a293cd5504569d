/*
 * Ethernet (IEEE 802.3), VLAN tags (IEEE 802.1Q), PPPoE: the wire format, nothing of the kernel's own. Neither this nor the
 * headers above it are packed: they have no holes, and the compiler reads what is packed byte by byte.
 */
#ifndef XDROP_UAPI_LINUX_IF_ETHER_H
#define XDROP_UAPI_LINUX_IF_ETHER_H
#include <linux/types.h>

struct ethhdr {
	__u8 destination[6];
	__u8 source[6];
	__be16 type_be;
};

/* What follows an EtherType of 802.1Q or 802.1ad. */
struct vlan_tag {
	__be16 control_be;
	__be16 type_be;
};

/* What follows an EtherType of PPPoE's session stage (RFC 2516): six bytes of its own, and PPP's protocol number. */
struct pppoe_header {
	__u8 version_type;
	__u8 code;
	__be16 session_be;
	__be16 length_be;
	__be16 protocol_be;
};

#define PPP_IPV4 0x0021 /* RFC 1332 */
#define PPP_IPV6 0x0057 /* RFC 5072 */

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_IPV6 0x86dd
#define ETHERTYPE_PPPOE 0x8864
#define ETHERTYPE_8021Q 0x8100
#define ETHERTYPE_8021AD 0x88a8

#endif
