--- +ffi
-- Buffers, bit operations and formats with C data.
local ffi, B, bit = require "ffi", require "string.buffer", require "bit"
local b = B.new() local p, n = b:reserve(10) print(type(p), tostring(ffi.typeof(p)), n >= 10) ffi.copy(p, "hello", 5) b:commit(5) print(b:tostring(), #b) print(pcall(b.commit, b, 1e6))
local r, len = b:ref() print(ffi.string(r, len), len, r[0], r[4]) local src = ffi.new("char[4]", "abc") print(b:putcdata(src, 3):tostring(), b:set(src, 2):tostring(), b:set(ffi.cast("const char *", src) + 1, 2):tostring()) print(pcall(b.putcdata, b, "x", 1)) print(pcall(b.putcdata, b, ffi.new("int", 5), 1))
local e = B.encode({1LL, 2ULL, -1LL}) local d = B.decode(e) print(d[1], d[2], d[3], #e)
print(bit.band(0xffffffffffffLL, 0xff00ff00ff00LL), bit.bor(1LL, 2), bit.bxor(1ULL, 3LL), bit.bnot(0LL), bit.lshift(1LL, 40), bit.rshift(-1LL, 60), bit.arshift(-8LL, 1), bit.rol(1ULL, 63), bit.ror(1ULL, 1), bit.bswap(1LL), bit.tobit(0x1ffffffffLL), bit.tohex(255LL), bit.tohex(-1LL, -16), bit.tohex(0x1234LL, 4))
print(tonumber(5LL), tonumber(ffi.new("int", 7)), tonumber(2^53 + 1ULL), tonumber(ffi.new("double", 0.5)), type(5LL), tostring(5LL), tostring(6ULL)) print(#b:reset():put("x", tostring(5LL)):tostring())
