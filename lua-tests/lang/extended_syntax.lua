-- The 2026 syntax: operators, navigation, compound assignment, continue, const, short functions.
local function msg(f, ...) local ok, e = pcall(f, ...) return (tostring(e):gsub("^.-:%d+: ", "")) end
local function cannot(src) local f, e = loadstring(src, "=x") return f and "ok" or e end

-- Bit operators.
print(0xff & 0x0f, 1 | 6, 5 ~ 3, ~0, 1 << 4, -1 >> 28, -16 ~>> 2, 1 << 33)
local a, b = 0xf0, 3
print(a & b, a | b, a ~ b, ~a, a << b, a >> b, -a ~>> b)
print(1 | 2 ~ 3 & 4, 1 << 2 + 1, 3 & 2 == 2, msg(|| -> "1" .. 1 << 1))
print(2^31 | 0, 2^32 | 1, -1 & 0xff, 1.5 | 0)
print(msg(function() return "1" & 1 end))
print(msg(function() return {} | 1 end))
print(msg(function() return ~"1" end))

-- Customary operators.
print(!true, !nil, 1 != 2, 1 != 1, true && 5, nil || 6, !(1 == 2) && "yes")

-- Conditional.
local function pick(c) return c ? "yes" : "no" end
print(pick(true), pick(nil), pick(0))
print(1 > 2 ? "a" : 2 > 1 ? "b" : "c", (nil ? 1 : 2) + 1, true ? false : true)
local t = {m = function(self, x) return x end}
print(true ? (t:m(1)) : 2, false ? 1 : t:m(3))
local n = 0
local function count(v) n = n + 1 return v end
print(count(true) ? count(1) : count(2), n)

-- Navigation.
local nothing
local deep = {b = {c = {d = 1}}, f = function(...) return select("#", ...), ... end, g = function(self) return self ~= nil end}
print(nothing?.b, deep?.b?.c?.d, deep?.x?.y?.z, deep?.["b"]?.["c"] == deep.b.c, nothing?.[count(1)], n)
print(msg(function() return nothing?.b.c end))
print(msg(function() return deep?.nope.c end))
print(nothing?.(count(1)), n, nothing?."s", nothing?.{}, deep.f?.(1, 2))
print(deep?.:g(), nothing?.:g(count(1)), n, deep:h?.(count(1)), n, deep:g?.())
print(nothing?.:g?.(), deep?.:h?.())
print(msg(function() local f = false; return f?.x end))
nothing?.()
deep.f?.()
nothing?.x = count(1)
print(n, nothing)
deep?.x = 5
deep?.["y"] = 6
print(deep.x, deep.y)
local e = {}
e?.a = 1 nothing?.b = 2 e?.c = 3
print(e.a, e.c)
print(#{deep.f?.(1, 2)}, (deep.b?.c).d)

-- Coalescing.
print(nil ?? 1, false ?? 1, nothing ?? nil ?? 3, 0 ?? count(1), n)
print(nothing?.x ?? "default", (nothing ?? deep).x, nil ?? 1 == 1)

-- Compound assignment.
local x = 10
x += 5; x -= 1; x *= 2; x /= 4; x %= 4
print(x)
x = 0xff; x &= 0x3c; x |= 1; x ~= 0xff; x <<= 2; x >>= 1; x ~>>= 1
print(x)
local s = "a"; s ..= "b" .. "c"; s ..= 1
print(s)
local calls = 0
local function obj() calls = calls + 1 return deep end
obj().x += 1; obj()["y"] *= 2;
print(deep.x, deep.y, calls)
do local function up() x += 1 return x end print(up(), up()) end
G = 1; G += 1; print(G)
nothing?.x += count(1); deep?.x += 1; print(n, deep.x)
local arr = {1, 2, 3}; for i = 1, 3 do arr[i] *= i + 1 end print(table.concat(arr, " "))
print(cannot("x ^= 1"), cannot("a, b += 1, 2"), cannot("f() += 1"))

-- continue
local r = {}
for i = 1, 6 do if i % 2 == 0 then continue end r[#r + 1] = i end
for k, v in ipairs{1, 2, 3} do if v == 2 then continue end r[#r + 1] = v * 10 end
local i = 0
while i < 5 do i += 1; if i == 3 then continue end r[#r + 1] = i * 100 end
repeat i -= 1; if i > 1 then continue end r[#r + 1] = -i until i <= 0
print(table.concat(r, " "))
local fs = {}
for j = 1, 3 do local y = j; fs[#fs + 1] = || -> y; if j == 2 then continue end; y += 10 end
print(fs[1](), fs[2](), fs[3]())
for j = 1, 2 do for l = 1, 3 do if l == 2 then continue end io.write(j, l, " ") end end print()
local continue = 7; continue = continue + 1; print(continue)
print(cannot("continue"), cannot("while x do continue; y = 1 end"))
print(cannot("repeat if x then continue end; local a = a until a"))

-- const
const c1, c2 = 1, 2
const function cf(v) return v + c1 end
print(c1 + c2, cf(1))
const ct = {}; ct.x = 1; print(ct.x)
local const = 3; const = const + 1; print(const)
print(cannot("const a = 1; a = 2"), cannot("const a = 1; a += 2"))
print(cannot("const a = 1; local a"), cannot("const a = 1; do local a end"), cannot("const a; function f(a) end"))
print(cannot("const a = 1; function f() a = 2 end"), cannot("const function f() end; function f() end"))
print(cannot("do const a = 1 end local a = 2; a = 3"), cannot("const const = 1"), cannot("local a; const a = 1"))

-- Short functions.
local inc = v -> v + 1
local add = |p, q| -> p + q
local one, blk = || -> 1, |p, ...| -> do local k = select("#", ...) return p, k end
print(inc(1), add(2, 3), one(), blk(9, 8, 7))
print((v -> w -> v .. w)("x")("y"), select("#", (|...| -> ...)(1, 2, 3)))
table.sort(arr, |p, q| -> p > q)
print(table.concat(arr, ","))
print(msg(v -> v.x, nil))

-- Digit separators.
print(1_000_000, 0xff_ff, 1_2.5_0, 1e1_0, 0b1_01, tonumber("1_0"))
