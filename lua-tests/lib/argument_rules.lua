-- Arguments at the edge of what the library takes, checked against LuaJIT.
local function try(f, ...)
  local function show(...)
    local r = { ... }
    for i = 1, select("#", ...) do r[i] = tostring(r[i]):gsub("0x%x+", "ADDR") end
    print(table.concat(r, " | "))
  end
  show(pcall(f, ...))
end
-- What is written in Lua there does not know missing arguments from nil.
try(table.getn) try(table.foreach) try(table.foreach, {}) try(table.foreachi, {}) try(table.remove) try(table.move)
try(table.move, {}) try(table.move, {}, 1) try(string.len) try(table.concat) try(table.insert) try(string.upper)
try(math.deg) try(math.rad, {}) try(math.deg, "x") try(math.deg, "180") try(math.rad, true)
local scaled = setmetatable({}, { __mul = function(t, x) return ("%.6f"):format(x), "second" end })
print(math.deg(scaled), math.rad(scaled), (math.deg(math.pi)), math.rad(180) == math.pi)
for _, e in ipairs { 0, 1, -1, 2.9, -2.9, 2 ^ 31, -2 ^ 31, 2 ^ 53, 1e300, 1 / 0, -1 / 0, 0 / 0 } do
  io.write(e, ":")
  for _, m in ipairs { 0, 1, -1, 1.5, 1 / 0 } do io.write(" ", tostring(math.ldexp(m, e)):gsub("^-nan", "nan"), "") end
  io.write("\n")
end
try(os.difftime) try(os.difftime, nil, "x") try(os.difftime, 5, 3) try(os.difftime, 5.9, 2.9) try(os.difftime, 1e300)
try(os.difftime, 0, 1 / 0) print(os.difftime(-0.0))
print(os.date("!*t extra", 0), os.date("!*tx", 0), type(os.date("!*t", 0)), os.date("!%Y\0%m", 0))
try(debug.getupvalue) try(debug.getupvalue, 1) try(debug.getupvalue, 1, 1)
print(debug.traceback("m", -1), debug.traceback("m", 2 ^ 31), debug.traceback("m", 100))
print(debug.getfenv(io.stdout) == _G, debug.getfenv(newproxy()) == _G, debug.getfenv(1))
-- print looks once whether numbers are plain.
local t = setmetatable({}, { __tostring = function()
  debug.setmetatable(2, { __tostring = function(n) return "number" end })
  return "t"
end })
print(1, t, 2)
print(1, t, 2)
debug.setmetatable(2, nil)
-- A stripped function names no source; one that is loaded without a name does not show its bytecode.
local code = string.dump(function(a) return a + 1 end, true)
try(loadstring(code)) try(loadstring(code, "=zz")) try(load(code, "zz")) print(debug.getinfo(loadstring(code), "S").source)
-- Numbers in files, as scanf has them.
local name = os.tmpname()
local f = assert(io.open(name, "w"))
f:write("0x1p4 inf -nan 1e 0x 5..5 .5 +3 -INFINITY 1e5x 7 nam 8 i -i 9")
f:close()
f = assert(io.open(name))
local got = {}
for i = 1, 24 do got[i] = tostring(f:read("*n")):gsub("^-nan", "nan") if got[i] == "nil" then f:read(1) end end
print(table.concat(got, " "))
f:close()
f = assert(io.open(name))
try(f.read, f, {}) try(f.read, f, nil) try(f.read, f, "*q") try(f.read, f, -1) try(f.read, f, 2 ^ 31) try(f.read, f, "x")
print(f:read(0), f:read(1.9), f:read("*n"))
f:close()
os.remove(name)
try(io.popen, "true", "rw") try(io.popen, "true", "") try(io.popen, "true", "x")
