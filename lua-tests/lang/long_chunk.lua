-- Chunks of many outermost statements: labels, lines and errors far apart.
local function chunk(n, f)
  local t = {}
  for i = 1, n do t[i] = f(i) end
  return table.concat(t, "\n")
end
local many = chunk(3000, function(i) return "t[" .. i .. "] = (t[" .. i - 1 .. "] or 0) + " .. i end)

-- Statements in the middle of nowhere see the locals and upvalues of the beginning.
local src = "local t, n = {}, 0\nlocal function f() n = n + 1 return n end\n" .. many ..
  "\nf() return t[3000], f(), n"
print(loadstring(src)())

-- goto over all of it, both ways.
local back = "local t, n = {}, 0\n::top::\nn = n + 1\n" .. many .. "\nif n < 3 then goto top end\nreturn n, t[3000]"
print(loadstring(back)())
local fwd = "local t, n = {}, 0\ndo goto done end\n" .. many .. "\n::done::"
print(loadstring(fwd .. "\nreturn #t")())
print(loadstring("local t = {}\ndo goto done end\n" .. many .. "\n" .. many .. "\n" .. many .. "\n::done::", "=c"))
print(loadstring("do goto done end\nlocal t = {}\n" .. many .. "\nlocal x\n::done::\nprint(x)", "=c"))
print(loadstring("local t = {}\n" .. many .. "\ngoto nowhere\n" .. many, "=c"))
print(loadstring("local t = {}\nbreak\n" .. many, "=c"))

-- Lines.
print(pcall(loadstring("local t = {}\n" .. many .. "\nerror('here')\n" .. many, "=c")))
print(pcall(loadstring("local t = {}\n" .. many .. "\nlocal f = t\n.x\n.y\n" .. many, "=c")))
local info = debug.getinfo(loadstring("\n" .. many .. "\nreturn function()\n\nend", "=c"), "SL")
local lo, hi, count = 1e9, 0, 0
for l in pairs(info.activelines) do lo, hi, count = math.min(lo, l), math.max(hi, l), count + 1 end
print(info.linedefined, info.lastlinedefined, lo, hi, count)

-- The first error is the one reported, whoever finds it.
print(loadstring("local t = {}\n" .. many .. "\nx = = 1\n" .. many, "=c"))
print(loadstring("local t = {}\n" .. many .. "\ndo local a, b = 1 = 2\n", "=c"))
print(loadstring("local t = {}\n" .. many .. "\n'open\n", "=c"))
local locals = chunk(210, function(i) return "local v" .. i .. " = " .. i end)
print(loadstring("local t = {}\n" .. many .. "\n" .. locals .. "\n" .. many .. "\nx = = 1", "=c"))
print(loadstring("local t = {}\n" .. many .. "\nx = = 1\n" .. locals, "=c"))
print(loadstring("local t = {}\n" .. many .. "\nprint\n(1)", "=c"))
print(loadstring("local t = {}\n" .. many .. "\nreturn 1\n" .. many, "=c"))
print(loadstring("local t = {}\n" .. many .. "\nend", "=c"))
print(loadstring("goto x\nlocal t = {}\n" .. many .. "\nx = = 1", "=c"))
