--- +ffi
-- C calls in compiled loops that do not fit into registers or whose result is no number: extra arguments, structs by value,
-- booleans, enums, many arguments, finalizers, texts, types.
local ffi = require "ffi"
ffi.cdef [[
int abs(int); int snprintf(char *, size_t, const char *, ...); int sscanf(const char *, const char *, ...);
typedef struct { int quot, rem; } div_t; div_t div(int, int);
typedef struct { long quot, rem; } ldiv_t; ldiv_t ldiv(long, long);
bool odd(int) __asm__("abs"); enum answer { NO, YES = 8 }; enum answer toupper_(int) __asm__("toupper");
double ldexp(double, int); float fabsf(float); unsigned strtoul_(const char *, char **, int) __asm__("strtoul");
char *strchr(const char *, int); void *memset(void *, int, size_t);
typedef struct { int id; } counted;
]]
local C = ffi.C
local N = 150
-- Extra arguments: integers in registers, numbers by the general call.
local buf = ffi.new("char[80]")
local len = 0
for i = 1, N do
  len = len + C.snprintf(buf, 80, "%d %s %ld", ffi.new("int", i), "text", ffi.cast("long", i * 2))
  len = len + C.snprintf(buf, 80, "%g/%s/%d", i / 4, "x", ffi.new("int8_t", -1))
end
print(len, ffi.string(buf))
local a, b = ffi.new("int[1]"), ffi.new("double[1]")
local sum = 0
for i = 1, N do
  sum = sum + C.sscanf(i .. " " .. i / 8, "%d %lf", a, b) + a[0] + b[0]
end
print(sum)
-- Structs by value.
sum = 0
for i = 1, N do
  local d, l = C.div(i * 7, 5), C.ldiv(-i * 9, 4)
  sum = sum + d.quot * 10 + d.rem + tonumber(l.quot) - tonumber(l.rem)
end
print(sum)
-- Booleans that change, an enum, floats, pointers.
local yes, no, up = 0, 0, 0
for i = 1, N do
  if C.odd(i % 2) then yes = yes + 1 else no = no + 1 end
  local t = C.odd(i % 3 - i % 5)
  if not t then no = no + 1000 end
  up = up + tonumber(C.toupper_(97 + i % 20)) + C.ldexp(i, -1) + C.fabsf(-i / 2) + C.strtoul_("4000000000", nil, 10) % 7
  if C.strchr("abc", 97 + i % 5) == nil then up = up + 0.25 end
end
print(yes, no, up)
-- A boolean as an argument, a result that nobody wants, a call in tail position.
local function odd(x) return C.odd(x) end
local n = 0
for i = 1, N do
  C.odd(i)
  C.abs(true)
  if odd(i % 4) then n = n + C.abs(i % 2 == 0) end
end
print(n)
-- Finalizers.
local live, made = 0, 0
local function dead() live = live - 1 end
local ct = ffi.metatype("counted", { __gc = function(o) live = live - o.id end })
for i = 1, N do
  local p = ffi.gc(ffi.new("int[2]", i), dead)
  live = live + 1
  if i % 3 == 0 then ffi.gc(p, nil) live = live - 1 end
  local c = ct(2)
  live = live + 2
  made = made + p[0] + c.id
end
for i = 1, 10 do local x = { i } end
collectgarbage() collectgarbage()
print(made, live <= 3)
-- Texts and types.
local texts = 0
for i = 1, N do
  texts = texts + #tostring(ffi.new("int64_t", i)) + #tostring(ffi.new("uint64_t", i * 1000))
  local T = ffi.typeof(i % 2 == 0 and "int[4]" or "double[4]")
  local U = ffi.typeof(T)
  texts = texts + ffi.sizeof(U) + ffi.sizeof(U()) + ffi.sizeof(ffi.new("char[?]", i))
end
print(texts)
-- What is refused is refused with the interpreter's words.
local function refused(x) for i = 1, 100 do if i == 90 then C.abs(x) else C.abs(i) end end end
for _, x in ipairs { "s", {} } do print((select(2, pcall(refused, x)):gsub("^.-:%d+: ", ""))) end
local f = ffi.cast("int (*)(int)", 0)
print((select(2, pcall(function() for i = 1, 100 do if i == 80 then f(i) else C.abs(i) end end end)):gsub("^.-:%d+: ", "")))
