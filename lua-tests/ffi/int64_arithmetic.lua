--- +ffi
-- 64-bit integers: wrapping, signs, comparison, division by zero, as results of C calls.
local ffi = require "ffi"
ffi.cdef "long long llabs(long long); size_t strlen(const char *);"
local h = 14695981039346656037ULL
for i = 1, 1000 do h = (h + i) * 1099511628211ULL end
print(h)
local s = 0LL
for i = -50, 50 do s = s + i * 3LL end
print(s, -7LL / 2, -7LL % 2, 7LL / 0, 2LL ^ 40, -1LL < 1ULL)
print(ffi.C.llabs(-5), ffi.C.strlen("hello") == 5, tonumber(ffi.C.strlen("hello")))
local t, k = {}, 5LL
t[k] = true
print(t[k], t[5LL], 5LL == 5, 5LL == 5ULL, 5LL ~= 6)
local c = 0
for i = 1, 300 do if ffi.cast("int8_t", i) == i then c = c + 1 end end
print(c)
