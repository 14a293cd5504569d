/* Force-included by bcc before everything else. bcc's helpers leave out their maps without this. */
#ifndef XDROP_LINUX_KCONFIG_H
#define XDROP_LINUX_KCONFIG_H
#define CONFIG_BPF_SYSCALL 1
#endif
