-- Switches between coroutines that the interpreter makes in its handlers, and those that look alike and need more.
local create, resume, yield, wrap = coroutine.create, coroutine.resume, coroutine.yield, coroutine.wrap
local status, running = coroutine.status, coroutine.running

local function show(...)
  local t = { select('#', ...), ... }
  for i = 1, t[1] do local v = t[i + 1] t[i + 1] = type(v) == 'table' and '{}' or tostring(v) end
  return table.concat(t, ' ')
end
local function list(n) local t = {} for i = 1, n do t[i] = i end return unpack(t, 1, n) end

-- Numbers of values, both ways: as many as wanted, more, fewer, all of them.
for _, n in ipairs{ 0, 1, 2, 3, 6, 7, 8, 9, 20, 100, 1000 } do
  local co = create(function(...)
    local sum = select('#', ...)
    while true do
      local got = select('#', yield(list(n)))
      sum = sum + got
      local a, b, c = yield(list(n))
      sum = sum + (a or 0) + (b or 0) + (c or 0)
      yield(list(n))
      yield()
      local x = yield(sum)
      sum = sum + (x or 0)
    end
  end)
  local out = {}
  for round = 1, 3 do
    for step = 1, 5 do
      local ok, a, b = resume(co, list(n))
      out[#out + 1] = tostring(ok) .. ':' .. tostring(a) .. ':' .. tostring(b)
      if step == 2 then out[#out + 1] = select('#', resume(co, list(n))) - 1 break end
    end
    for _ = 1, 3 do out[#out + 1] = show(select(2, resume(co, round))):sub(1, 12) end
  end
  print(n, table.concat(out, ' '))
  local f = wrap(function(...) local n = select('#', ...) while true do n = select('#', yield(n, ...)) end end)
  print(n, (f(list(n))), f(list(n)), select('#', f(list(n))), (f()))
end

-- Into tables, calls and returns.
do
  local f = wrap(function() while true do yield(1, 2, 3) yield() yield(nil) yield(4) end end)
  local t = { f(), f(), f(), f(), f() }
  print(#t, t[1], t[2], t[3], t[4], t[5], t[6], t[7])
  local function tail() return f() end
  print(show(tail())) print(show(tail())) print(show(tail()))
  local co = create(function(...) local t = { ..., yield() } while true do t = { yield(#t), yield(#t) } end end)
  print(resume(co, 1, 2)) print(resume(co, 3, 4, 5)) print(resume(co, 6)) print(resume(co, 7, 8, 9))
  local g = wrap(function() return yield(yield(yield(1))) end)
  print(g(), g('a', 'b'), g('c'), show(g('d', 'e')))
end

-- Chains: a yield goes to who resumed last, wherever the one before that was.
do
  local trail = {}
  local function note(...) trail[#trail + 1] = table.concat({ ... }, '') end
  local inner = wrap(function(v) while true do note('i', v) v = yield(v * 2) end end)
  local middle = wrap(function(v)
    while true do
      local w = inner(v)
      note('m', w)
      v = yield(w + 1)
      note('M', inner(v))
      v = yield(inner(v) + inner(v + 1))
    end
  end)
  for i = 1, 6 do note('o', middle(i)) note('x', inner(i)) end
  print(table.concat(trail, ' '))
  -- One coroutine, resumed from different ones.
  local shared = create(function(a) while true do a = yield(a) end end)
  local users = {}
  for i = 1, 4 do
    users[i] = wrap(function()
      local function deep(n) if n == 0 then return select(2, resume(shared, i)) end return (deep(n - 1)) end
      while true do yield(deep(i * 5), deep(0)) end
    end)
  end
  local sum = 0
  for round = 1, 50 do for i = 1, 4 do local a, b = users[i]() sum = sum + a * 10 + b end end
  print(sum, status(shared))
end

-- A wrapped coroutine that a plain resume cannot see, and one that is resumed both ways.
do
  local co = create(function() while true do yield(running()) end end)
  local w = wrap(function() while true do local ok, c = resume(co) yield(ok, c == co, status(co)) end end)
  for _ = 1, 3 do print(w()) print(select('#', resume(co))) end
end

-- Who is no suspended coroutine.
do
  local co
  co = create(function()
    print(resume(co))
    local other = create(function() print(status(co)) print(resume(co)) return yield(1) end)
    print(resume(other)) print(resume(other, 'x')) print(resume(other))
    yield()
    error('over')
  end)
  print(resume(co)) print(resume(co)) print(resume(co)) print(status(co))
  local w
  w = wrap(function() yield() print(pcall(w)) yield() return 1 end)
  w() w() print(w()) print(pcall(w)) print(pcall(w))
  print(resume(running() or create(function() end)))
  print(pcall(yield, 1)) print(pcall(resume)) print(pcall(resume, 1)) print(pcall(resume, nil, 2))
  local f = wrap(function() yield() error('here') end) f() print(pcall(f))
  f = wrap(function() yield() error{ 1 } end) f() print(select('#', pcall(f)), type(select(2, pcall(f))))
end

-- Yields from calls that are not Lua code's, going on with what was passed.
do
  local function rounds(name, f, ...)
    local co, out = create(f), {}
    local r = { resume(co, ...) }
    while status(co) ~= 'dead' do
      out[#out + 1] = show(unpack(r, 2))
      r = { resume(co, #out) }
    end
    print(name, table.concat(out, ';'), show(unpack(r)))
  end
  rounds('pcall', function() return pcall(yield, 'p'), pcall(pcall, yield, 'q'), yield('r') end)
  rounds('xpcall', function() return xpcall(yield, print, 'p', 'q') end)
  rounds('pcall body', function() return pcall(function() return yield(1) + yield(2) end) end)
  rounds('tail', function() return yield('t') end)
  rounds('vararg tail', function(...) return yield(...) end, 5, 6, 7)
  rounds('metamethods', function()
    local t = setmetatable({}, { __index = yield, __newindex = yield, __add = yield, __call = yield, __concat = yield,
      __lt = yield, __unm = yield, __len = yield })
    t.x = 1
    local sum = t.a
    local c = t(1, 2)
    return sum, c, t + 1, t .. 's', t < t, -t
  end)
  rounds('iterator', function()
    local s = 0
    for a in yield, 'state', 'first' do s = s + a if s > 9 then return s end end
  end)
  rounds('sort', function() local t = { 3, 1, 2 } table.sort(t, function(a, b) yield(a, b) return a < b end) return unpack(t) end)
  rounds('gsub', function() return ('abc'):gsub('.', function(c) return yield(c) end) end)
  rounds('gsub itself', function() return ('abc'):gsub('.', yield) end)
  rounds('resume in pcall', function()
    local co = create(function() yield(1) yield(2) return 3 end)
    return select('#', pcall(resume, co)), select(3, pcall(resume, co)), yield('between'), select(3, pcall(resume, co))
  end)
end

-- A hook that resumes, one that yields, and switches while one is set.
do
  local hooked, log = 0, {}
  local co = create(function() while true do hooked = hooked + 1 yield(hooked) end end)
  local function hook() resume(co) local ok, e = pcall(yield, 1) log[#log + 1] = tostring(ok) end
  local w = wrap(function()
    debug.sethook(hook, '', 1)
    local x = yield('in')
    debug.sethook()
    return x
  end)
  print(w(), (w('out')))
  print(hooked > 2, log[1], log[#log])
  local calls = 0
  local f = wrap(function() while true do yield() end end)
  f()
  debug.sethook(function() calls = calls + 1 end, 'c')
  for _ = 1, 10 do f() end
  debug.sethook()
  print(calls >= 20)
  -- A hook may take itself away, and still runs.
  local inner = wrap(function() for i = 1, 3 do yield(i) end end)
  local seen = {}
  local t = create(function()
    debug.sethook(function() debug.sethook() seen[1] = inner() seen[2] = select(2, pcall(yield)) seen[3] = inner() end, '', 1)
    local x = 1
    return yield(x)
  end)
  print(resume(t)) print(seen[1], seen[2], seen[3]) print(resume(t, 'end'))
end

-- Stacks that grow and shrink between two switches; the resumer's as well as the other's.
do
  local function deep(n, f) if n == 0 then return f() end local a, b, c, d = deep(n - 1, f) return a, b, c, d end
  local co = create(function()
    for n = 1, 400, 37 do
      deep(n, function() yield(n) end)
      yield(deep(n, function() return select('#', yield('deep')) end))
      if n % 5 == 0 then collectgarbage() end
    end
    return 'done'
  end)
  local n, sum = 0, 0
  while true do
    local ok, v
    if n % 2 == 0 then ok, v = resume(co, list(n % 300)) else ok, v = deep(n, function() return resume(co, n) end) end
    if v == 'done' then break end
    n = n + 1
    if type(v) == 'number' then sum = sum + v end
    if n % 7 == 0 then collectgarbage() end
  end
  print(n, sum)
  -- Each of a chain grows while the others wait.
  local function level(k)
    return wrap(function()
      local below = k > 0 and level(k - 1)
      while true do
        local s = k
        if below then s = s + below() end
        s = s + deep(k * 20, function() return below and below() or 1 end)
        yield(s)
      end
    end)
  end
  local top = level(6)
  print(top(), top(), top())
end

-- As deep as it goes: the one on top refuses, and all others still work.
do
  local function tower(n)
    local ok, e = resume(create(function() return tower(n + 1) end))
    if not ok then return n, e end
    return ok and e, select(2, ok, e)
  end
  local co = wrap(function() local d = tower(1) return d > 100 end)
  print(co())
  local function chain(n)
    local f = n > 0 and chain(n - 1)
    return wrap(function() local i = 0 while true do i = i + 1 yield(f and f() + 1 or i) end end)
  end
  local c = chain(150)
  c() c()
  print(c())
end

-- Generators inside generators, for long.
do
  local function gen(n) return wrap(function() for i = 1, n do yield(i) end end) end
  local function filter(p, g) return wrap(function() for n in g do if n % p ~= 0 then yield(n) end end end) end
  local g = wrap(function() for i = 2, 400 do yield(i) end end)
  local count, last = 0
  while true do
    local n = g()
    if not n then break end
    count, last = count + 1, n
    g = filter(n, g)
  end
  print(count, last)
  local s = 0
  for a in gen(30) do for b in gen(a) do s = s + b end end
  print(s)
end
