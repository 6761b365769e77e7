--- +ffi
-- Loads and stores of every scalar type in loops that become traces: wrapping, cutting, extension, conversion.
local ffi = require "ffi"
ffi.cdef [[
typedef struct {
  int8_t i8; uint8_t u8; int16_t i16; uint16_t u16; int32_t i32; uint32_t u32; int64_t i64; uint64_t u64;
  float f; double d; bool b; char c; enum { RED, GREEN = 5 } e; const int k;
} every;
]]
local v = ffi.new("every[4]")
local sums = {}
local function add(name, x) sums[name] = (sums[name] or 0) + x end
for i = 1, 200 do
  local e = v[i % 4]
  e.i8 = i * 3; e.u8 = -i; e.i16 = i * 1000; e.u16 = -i * 999.75; e.i32 = -i * 12345.9; e.u32 = 4294967295 - i
  e.i64 = -i * 1e10; e.u64 = i * 2 ^ 40; e.f = i / 3; e.d = i / 7; e.b = i % 3 == 0; e.c = i
  add("i8", e.i8); add("u8", e.u8); add("i16", e.i16); add("u16", e.u16); add("i32", e.i32); add("u32", e.u32)
  add("i64", tonumber(e.i64)); add("u64", tonumber(e.u64)); add("f", e.f); add("d", e.d); add("b", e.b and 1 or 0)
  add("c", e.c); add("k", e.k)
end
for _, n in ipairs { "i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "f", "d", "b", "c", "k" } do
  print(n, ("%.14g"):format(sums[n]))
end
-- Elements by integer, by computed number, by 64-bit integer, of arrays in structs and behind pointers.
local a = ffi.new("int[100]")
local p = ffi.cast("int *", a)
for i = 0, 99 do a[i] = i end
local s1, s2, s3, s4 = 0, 0, 0, 0
for i = 0, 99 do
  s1 = s1 + a[i]
  s2 = s2 + p[99 - i]
  s3 = s3 + a[i * 0.5 - (i % 2) * 0.5]
  s4 = s4 + p[ffi.cast("int64_t", i)]
end
print(s1, s2, s3, s4)
-- A NaN with other bits than the usual ones stays a number.
local d = ffi.new("double[64]")
local bits = ffi.cast("uint64_t *", d)
local f = ffi.new("float[64]")
local fbits = ffi.cast("uint32_t *", f)
for i = 0, 63 do bits[i] = 0xfff8000000000000ULL + (i >= 60 and i * 0x1000000000ULL or 0) end
for i = 0, 63 do fbits[i] = 0xffc00000 + (i >= 60 and i or 0) end
local nans = 0
for i = 0, 63 do
  local x, y = d[i], f[i]
  if x ~= x and type(x) == "number" then nans = nans + 1 end
  if y ~= y and type(y) == "number" then nans = nans + 1 end
end
print(nans)
-- One word seen as integer and as double: the store is not overlooked.
local u = ffi.new("union { double d; uint32_t w[2]; }")
local acc = 0
for i = 1, 100 do
  u.d = i
  acc = acc + u.w[1] % 1000
  u.w[1] = u.w[1] + 1048576
  acc = acc + u.d
end
print(acc)
-- NULL is an error on a trace too.
local list = ffi.new("struct { int *p; }[100]")
local one = ffi.new("int[1]", 7)
for i = 0, 98 do list[i].p = one end
local total = 0
print(pcall(function()
  for i = 0, 99 do total = total + list[i].p[0] end
end))
print(total)
-- Constants are not written.
print(pcall(function() for i = 1, 100 do v[0].k = i end end))
-- Bit fields.
ffi.cdef [[ typedef struct { unsigned a : 3; int b : 5; unsigned c : 8; unsigned d : 16; int e : 9; unsigned f : 20; int g : 7; } bits; ]]
local bf = ffi.new("bits[3]")
local bsum = 0
for i = 1, 150 do
  local x = bf[i % 3]
  x.a = i; x.b = i; x.c = -i; x.d = i * 500; x.e = i * 3; x.g = -i
  bsum = bsum + x.a + x.b * 2 + x.c * 3 + x.d * 5 + x.e * 7 + x.g * 11
end
print(bsum, bf[0].a, bf[1].b, bf[2].c, bf[0].d, bf[1].e, bf[2].g)
-- One piece of memory behind pointers of different types, made before the loop.
local mem = ffi.new("double[4]")
local words, halves = ffi.cast("uint32_t *", mem), ffi.cast("int16_t *", mem)
local seen = 0
for i = 1, 200 do
  mem[i % 4] = i
  seen = seen + words[i % 4 * 2 + 1] % 4096 + halves[i % 4 * 4 + 3]
  words[i % 4 * 2 + 1] = words[i % 4 * 2 + 1] + 65536
  seen = seen + mem[i % 4] % 977
end
print(("%.12g"):format(seen))
-- Numbers that no integer holds, stored in narrow integers; fractions as indexes.
local huge = { 1e300, -1e300, 2 ^ 63, -2 ^ 63, 2 ^ 53 + 2, -2 ^ 53 - 6, 1 / 0, -1 / 0, 4294967297.75, -4294967298.5 }
local n32, n8, hs = ffi.new("int32_t[10]"), ffi.new("uint8_t[10]"), {}
for r = 1, 20 do
  for i = 1, 10 do
    local x = huge[i] + 0.5
    n32[i - 1], n8[i - 1] = x, x
  end
end
for i = 0, 9 do hs[#hs + 1] = n32[i] hs[#hs + 1] = n8[i] end
print(table.concat(hs, " "))
local step = 0
for i = 1, 100 do step = step + n32[i / 13] + n32[4 + i * 0.01] end
print(step)
