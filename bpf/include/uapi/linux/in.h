/* Asked for by bcc; nothing in it is needed. */
#ifndef XDROP_UAPI_LINUX_IN_H
#define XDROP_UAPI_LINUX_IN_H
#endif
