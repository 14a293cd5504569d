/* Asked for by bcc; nothing in it is needed. */
#ifndef XDROP_LINUX_LOG2_H
#define XDROP_LINUX_LOG2_H
#endif
