#ifndef XDROP_ASM_PAGE_H
#define XDROP_ASM_PAGE_H
#define PAGE_SIZE 4096
#endif
