-- Hot counters that run out, and stacks that grow, tell no event twice and lose none.
do
  local calls, returns = 0, 0
  local function x(n) return n end
  debug.sethook(function(ev) if ev == "call" then calls = calls + 1 else returns = returns + 1 end end, "cr")
  for i = 1, 1000 do x(i) end
  debug.sethook()
  print(calls, returns)
end
do
  local calls = 0
  local function deep(n) if n > 0 then math.abs(n) deep(n - 1) math.abs(n) end end
  coroutine.wrap(function()
    debug.sethook(function() calls = calls + 1 end, "c")
    deep(1000)
    debug.sethook()
  end)()
  debug.sethook()
  print(calls)
end
do
  local lines, returns = 0, 0
  local function x(n)
    return n
  end
  debug.sethook(function(ev)
    if ev == "line" then lines = lines + 1 else returns = returns + 1 end
    for i = 1, 20 do end
  end, "lr")
  for i = 1, 100 do x(i) end
  debug.sethook()
  print(lines, returns)
end
