--- +ffi
-- Beside 64-bit data a number counts with all its bits, cut towards zero.
print(bit.band(2 ^ 33, 2 ^ 33 + 0LL), bit.bor(-1, 0LL), bit.bor(2 ^ 40 + 1, 0LL), bit.bor(-2 ^ 40, 0LL))
print(bit.bor(2 ^ 63, 0LL), bit.bor(2 ^ 64, 0LL), bit.bor(1.5, 0LL), bit.bor(-1.5, 0LL), bit.bor("5", 0LL))
print(bit.bor("-5", 0LL), bit.bor(2 ^ 53 + 2, 0ULL), bit.bxor(2 ^ 33, 2 ^ 34, 1ULL), bit.band(2 ^ 33))
print(bit.lshift(2 ^ 33, 1), bit.lshift(1LL, 2 ^ 33 + 1), bit.bnot(2 ^ 33), bit.tobit(2 ^ 33 + 5LL))
print(bit.tohex(2 ^ 33 + 5), bit.tohex(2 ^ 33 + 5LL), bit.rol(1ULL, 65), bit.arshift(-8LL, 1))
