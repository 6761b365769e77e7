--- -zeal
-- Much garbage of every kind while structures stay alive: nothing that is reachable goes away.
local live = {} for i = 1, 200 do live[i] = {id = i, name = "object" .. i, list = {i, i + 1}, f = function() return i end} end
for round = 1, 6 do
  for i = 1, 100 do local t = {i, {i}} t.x = "tmp" .. i .. round local s = ("%d:%s"):format(i, t.x) local f = function() return t end local c = coroutine.wrap(function() coroutine.yield(s) end) c() end
  local j = round * 7 % 200 + 1 live[j] = {id = j, name = "object" .. j, list = {j, j + 1}, f = function() return j end}
end
local ok = true for i = 1, 200 do local o = live[i] ok = ok and o.id == i and o.name == "object" .. i and o.list[2] == i + 1 and o.f() == i end print(ok)
local deep = {} local p = deep for i = 1, 2000 do p.next = {i} p = p.next end collectgarbage() local n = 0 p = deep while p.next do p = p.next n = n + p[1] end print(n)
local strs = {} for i = 1, 500 do strs["key" .. i] = ("v"):rep(i % 100) .. i end collectgarbage() local good = 0 for i = 1, 500 do if strs["key" .. i] == ("v"):rep(i % 100) .. i then good = good + 1 end end print(good)
local function build(d) if d == 0 then return {} end return {build(d - 1), build(d - 1)} end local function size(t) return 1 + (t[1] and size(t[1]) + size(t[2]) or 0) end print(size(build(7)))
local before = collectgarbage("count") for i = 1, 5 do local big = {} for k = 1, 1000 do big[k] = {k} end end collectgarbage() collectgarbage() print(collectgarbage("count") < before + 2000)
collectgarbage("stop") print(collectgarbage("isrunning")) for i = 1, 100 do local t = {i} end collectgarbage("restart") print(collectgarbage("isrunning"), collectgarbage("setpause", 150) > 0, collectgarbage("setstepmul", 300) > 0, collectgarbage("setpause", 200), collectgarbage("setstepmul", 200))
local cos = {} for i = 1, 100 do cos[i] = coroutine.wrap(function(...) local s = {...} while true do local x = coroutine.yield(#s) s[#s + 1] = x end end) cos[i](i) end for r = 1, 5 do for i = 1, 100 do cos[i]({r}) end collectgarbage("step") end print(cos[1](1), cos[100](1))
local up = {} for i = 1, 100 do local v = {i} up[i] = {get = function() return v[1] end, set = function(x) v = {x} end} end collectgarbage() for i = 1, 100 do up[i].set(i * 2) end collectgarbage() local s = 0 for i = 1, 100 do s = s + up[i].get() end print(s)
