--- +ffi
-- C functions called from loops: every way that arguments and results travel, and errno around it.
local ffi = require "ffi"
ffi.cdef [[
int abs(int); long labs(long); double fabs(double); float fabsf(float); size_t strlen(const char *);
int memcmp(const void *, const void *, size_t); void *memchr(const void *, int, size_t); double ldexp(double, int);
int toupper(int); long strtol(const char *, char **, int); char *strchr(const char *, int); double pow(double, double);
unsigned int htonl(unsigned int); unsigned short htons(unsigned short); void *memset(void *, int, size_t);
int snprintf(char *, size_t, const char *, ...);
]]
local C = ffi.C
local s = {}
for i = 1, 12 do s[i] = 0 end
local buf = ffi.new("char[64]")
local bytes = ffi.new("uint8_t[32]")
for i = 1, 200 do
  s[1] = s[1] + C.abs(-i)
  s[2] = s[2] + tonumber(C.labs(-i * 1e9))
  s[3] = s[3] + C.fabs(-i / 8)
  s[4] = s[4] + C.fabsf(-i / 8)
  s[5] = s[5] + tonumber(C.strlen("some text"))
  bytes[i % 32] = i
  s[6] = s[6] + (C.memcmp(bytes, bytes + 1, 8) < 0 and 1 or 0)
  s[7] = s[7] + C.ldexp(i, 3)
  s[8] = s[8] + C.toupper(97 + i % 26)
  s[9] = s[9] + C.htonl(i)
  s[10] = s[10] + C.htons(i)
  C.memset(buf, 65 + i % 26, 63)
  s[11] = s[11] + tonumber(C.strlen(buf))
  s[12] = s[12] + C.pow(i, 0.5)
end
print(table.concat(s, " ", 1, 11))
print(("%.10g"):format(s[12]))
-- A pointer result, NULL and not.
local text, found = "hello, world", 0
for i = 1, 100 do
  local p = C.strchr(text, i % 2 == 0 and 119 or 122)
  if p ~= nil then found = found + p[1] end
end
print(found)
-- errno: what the program sets is there, what the function sets comes back.
ffi.errno(0)
local overflows = 0
for i = 1, 100 do
  C.strtol(i % 10 == 0 and "99999999999999999999" or "12", nil, 10)
  if ffi.errno() == 34 then overflows = overflows + 1 ffi.errno(0) end
end
print(overflows)
-- Strings and copies.
local out = {}
for i = 1, 100 do
  ffi.fill(buf, 64)
  ffi.copy(buf, "abcdefghij")
  ffi.copy(buf + 3, bytes, 0)
  buf[i % 10] = 48
  ffi.fill(buf + 20, 3, 120)
  out[i % 10 + 1] = ffi.string(buf) .. ffi.string(buf + 20, 2) .. ffi.string(buf, 3)
end
print(table.concat(out, " "))
-- Casts between pointers and integers.
local same = 0
for i = 0, 99 do
  local a = ffi.cast("intptr_t", buf + i % 64)
  local p = ffi.cast("char *", a)
  if p - buf == i % 64 then same = same + 1 end
end
print(same, ffi.sizeof(buf), ffi.sizeof("int"))
-- Wrong arguments are errors with the right words in the middle of a loop.
print(pcall(function() for i = 1, 100 do C.abs(i < 60 and i or "x") end end))
print(pcall(function() for i = 1, 100 do if i < 60 then C.abs(i) else C.abs() end end end))
print(pcall(function() for i = 1, 100 do C.strlen(i < 60 and "a" or nil and 1 or {}) end end))
