-- What the usual cases of instructions leave to others: nil entries, long keys, pieces of every length, wanted results.
local function show(...) print(select('#', ...), ...) end

-- Pieces of a string: every start and end, those that exist already and those that do not, the same object each time.
local text, seen, sum = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQ", {}, 0
for round = 1, 3 do
  for i = -3, #text + 3 do
    for j = -3, #text + 3 do
      local s = text:sub(i, j)
      local key = i .. ":" .. j
      if round == 1 then seen[key] = s elseif seen[key] ~= s then error(key) end
      sum = (sum * 31 + #s * (s:byte(1) or 7) + (s:byte(-1) or 3)) % 1000003
    end
  end
  collectgarbage()
end
print(sum)
for _, v in ipairs({ 0 / 0, 1 / 0, -1 / 0, 2.5, -2.5, 1e10 }) do
  print(pcall(string.sub, "hello", v, 4), (pcall(string.sub, "hello", 2, v)))
end
print(("a\0b\0c\0d"):sub(2, 4) == "\0b\0", ("a\0b"):sub(1, 2) == "a", #("a\0\0\0\0\0\0\0b"):sub(1, 5))
local short = {}
for n = 1, 8 do short[("x\0\0\0\0\0\0\0"):sub(1, n)] = n end
for n = 1, 8 do io.write(short["x" .. ("\0"):rep(n - 1)], " ") end
print()

-- Nil entries of the array part.
local t = { 1, nil, 3 }
print(t[2], t[4], t[0])
local n = 2
print(t[n], t[n + 2])
t[2] = "set" t[n + 2] = "far"
print(t[2], t[4])
local log = {}
local m = setmetatable({ 1, nil, 3 }, { __index = function(_, k) return "index " .. k end,
  __newindex = function(s, k, v) log[#log + 1] = k rawset(s, k, v) end })
print(m[1], m[2], m[n], m[4])
m[2] = 5 m[n] = 6 m[1] = 7 m[9] = 8 m.x = 9 m.x = 10
print(m[2], m[1], m[9], m.x, table.concat(log, ","))
m.x = nil m.x = 11
print(m.x, table.concat(log, ","))
local plain = setmetatable({ 1, nil, 3 }, {})
print(plain[2], plain[n]) plain[2] = 4 plain[n] = 5
print(plain[2]) plain.y = nil plain.y = 1 print(plain.y)
local inherited = setmetatable({ nil, 2 }, { __index = { "one" } })
print(inherited[1], inherited[2], inherited[3])

-- Long strings as keys are found by their contents.
local long = ("k"):rep(60)
local h = {}
h[long] = 1 h[("k"):rep(60)] = h[("kk"):rep(30)] + 1
print(h[("kkk"):rep(20)], h[("k"):rep(61)])

-- Results wanted from functions that have one, or give back what they got.
local band, floor = bit.band, math.floor
show(band(7, 13)) show(band(7, 13), 1) show((band(7, 13))) show(floor(2.5), (floor(2.5)))
show(band(15, 7, 14)) show(band(5)) show(bit.bor(1, 2, 4, 8), bit.bxor(5, 1)) show(math.max(1, 3, 2), math.min(4, 2))
local a, b, c = band(3, 1) print(a, b, c)
assert(1, 2) show(assert(1, 2)) local x = assert("x", "y") print(x) show((assert(4, 5)), assert(6))
print(pcall(assert, false, "no"), pcall(assert, nil), (pcall(assert)))
print(pcall(band, "a", 1)) print(band("12", 4), bit.lshift("1", 4))
print(string.char(65), string.char(0) == "\0", pcall(string.char, 256), pcall(string.char, -1), string.char())

-- Comparisons with NaN and of other things; loops that do not run.
local nan = 0 / 0
print(nan == nan, nan ~= nan, 1 == nan, t == t, t == {}, "a" == "a", 1 == "1", nil == false, t ~= t)
local count = 0
for _ = 1, nan do count = count + 1 end for _ = nan, 1 do count = count + 1 end
for _ = 1, 0 do count = count + 1 end for _ = 0, 1, -1 do count = count + 1 end
for _ = 3, 1, -1 do count = count + 1 end for _ = 1, 1, -1 do count = count + 1 end for _ = 1, 3, 0.5 do count = count + 1 end
print(count)

-- Powers.
local two, half = 2, 0.5
print(two ^ 10, two ^ half, (-two) ^ 3, "2" ^ "3", two ^ "2", ((-two) ^ half) ~= ((-two) ^ half))
print((select(2, pcall(function() return two ^ {} end)):gsub("^.-:%d+: ", "")))
print(setmetatable({}, { __pow = function(_, y) return "pow " .. y end }) ^ 4)
