/* Network byte order from the compiler's own knowledge of the target. */
#ifndef XDROP_ASM_BYTEORDER_H
#define XDROP_ASM_BYTEORDER_H

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define from_be16(value) __builtin_bswap16(value)
#define from_be32(value) __builtin_bswap32(value)
#define from_be64(value) __builtin_bswap64(value)
#else
#define from_be16(value) (value)
#define from_be32(value) (value)
#define from_be64(value) (value)
#endif
#define to_be16(value) from_be16(value)
#define to_be32(value) from_be32(value)
#define to_be64(value) from_be64(value)

#endif
