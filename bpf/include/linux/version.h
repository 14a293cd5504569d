/* bcc asks for a version only where kprobes need one; XDP programs do not. */
#ifndef XDROP_LINUX_VERSION_H
#define XDROP_LINUX_VERSION_H
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
#define LINUX_VERSION_CODE KERNEL_VERSION(5, 10, 0)
#endif
