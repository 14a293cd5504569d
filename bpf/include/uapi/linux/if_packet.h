/* Asked for by bcc; nothing in it is needed. */
#ifndef XDROP_UAPI_LINUX_IF_PACKET_H
#define XDROP_UAPI_LINUX_IF_PACKET_H
#endif
