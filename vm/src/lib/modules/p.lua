-- jit.p: where a program spends its time. Collects samples of jit.profile by key (function, line, zone, state of the
-- machine), in one level or two, and prints each key's share.

local profile = require("jit.profile")
local vmdef = require("jit.vmdef")

local format, floor, concat, sort = string.format, math.floor, table.concat, table.sort

local STATES = {
  N = "Compiled", I = "Interpreted", C = "C code", G = "Garbage Collector", J = "JIT Compiler",
}

-- The running report: its options and what it has counted; nil while none is.
local report
local out

-- Splits a stack text at its first separator.
local function split_stack(text)
  local inner, rest = text:match("(.-) [<>] (.*)")
  return inner or text, rest
end

local function builtin_name(id)
  return vmdef.ffnames[tonumber(id)]
end

local function count(r, key, inside, samples)
  r.top[key] = (r.top[key] or 0) + samples
  if inside then
    local t = r.inside[key]
    if not t then
      t = {}
      r.inside[key] = t
    end
    t[inside] = (t[inside] or 0) + samples
  end
end

local function sampled(thread, samples, state)
  local r = report
  r.samples = r.samples + samples
  local stack, second, special
  if r.special == "v" then
    special = STATES[state] or state
  elseif r.special == "z" then
    special = r.zone:get() or "(none)"
  end
  if r.format then
    stack = profile.dumpstack(thread, r.format, r.depth):gsub("%[builtin#(%d+)%]", builtin_name)
    if r.split == "stack" then
      stack, second = split_stack(stack)
    elseif r.split == "line" then
      second = profile.dumpstack(thread, "l", 1)
    end
  end
  if r.split == "special" then
    if special then count(r, special, stack, samples) end
  elseif stack then
    count(r, stack, second or special, samples)
  end
end

-- Keys with their counts, largest first; keys decide between equal counts, so that a report is repeatable.
local function ranking(counts)
  local keys = {}
  for k in pairs(counts) do keys[#keys + 1] = k end
  sort(keys, function(a, b)
    if counts[a] ~= counts[b] then return counts[a] > counts[b] end
    return a < b
  end)
  return keys
end

local function percent(n, all)
  return floor(n * 100 / all + 0.5)
end

local function print_counts(r, counts, inside, all, lead)
  for _, key in ipairs(ranking(counts)) do
    local n = counts[key]
    local share = percent(n, all)
    if share < r.min then break end
    if r.raw == "graph" then
      out:write(format("%s%s %d\n", lead, key, n))
    elseif r.raw then
      out:write(format("%s%5d  %s\n", lead, n, key))
    else
      out:write(format("%s%2d%%  %s\n", lead, share, key))
    end
    local deeper = inside and inside[key]
    if deeper then
      print_counts(r, deeper, nil, n, r.arrow)
    end
  end
end

-- The lines of one file with the counts beside them. With `around`, only that many lines about each counted one.
local function print_file(r, name, counts, around)
  local f = io.open(name)
  if not f then
    out:write(format("\n====== %s (not found) ======\n", name))
    return
  end
  out:write(format("\n====== %s ======\n", name))
  local lines = {}
  for line in f:lines() do lines[#lines + 1] = line end
  f:close()
  local shown = 0 -- the last line printed
  for at, line in ipairs(lines) do
    local show = not around
    if around then
      for near = at - around, at + around do
        if counts[near] then
          show = true
          break
        end
      end
    end
    if show then
      if around and shown ~= at - 1 or around and shown == 0 then out:write(format("@@ %d @@\n", at)) end
      shown = at
      local n = counts[at]
      if not n then
        out:write("      | ", line, "\n")
      elseif r.raw then
        out:write(format("%5d | %s\n", n, line))
      else
        out:write(format("%4d%% | %s\n", percent(n, r.samples), line))
      end
    end
  end
end

local function print_sources(r)
  local files, names = {}, {}
  for key, n in pairs(r.top) do
    local file, line = key:match("^(.*):(%d+)$")
    if file and percent(n, r.samples) >= r.min then
      if not files[file] then
        files[file] = {}
        names[#names + 1] = file
      end
      files[file][tonumber(line)] = n
    end
  end
  sort(names)
  for _, name in ipairs(names) do
    print_file(r, name, files[name], r.annotate > 0 and r.annotate or nil)
  end
end

local function finish()
  local r = report
  if not r then return end
  profile.stop()
  report = nil
  if r.samples == 0 then
    if r.raw ~= "graph" then out:write("[No samples collected]\n") end
  elseif r.annotate then
    print_sources(r)
  else
    print_counts(r, r.top, r.inside, r.samples, "")
  end
  if out ~= io.stdout then out:close() end
end

-- Reads the option letters into a new report.
local function options(mode)
  local r = { top = {}, inside = {}, samples = 0, min = 3, depth = 1, interval = "" }
  local rest = mode:gsub("i(%d*)", function(n)
    r.interval = "i" .. n
    return ""
  end):gsub("m(%d+)", function(n)
    r.min = tonumber(n)
    return ""
  end)
  local has = {}
  for letter in rest:gmatch(".") do has[letter] = letter end
  r.depth = tonumber(rest:match("%-?%d+")) or has["-"] and -1 or 1
  r.raw = has.r
  r.special = has.z or has.v
  if r.special == "z" then r.zone = require("jit.zone") end
  local scope = has.l or has.f or has.F or (r.special and "" or "f")
  local paths = has.p or ""
  if has.s then
    r.split = "stack"
    if r.depth == -1 or has["-"] and r.depth > -2 then
      r.depth = -2
    elseif r.depth == 1 then
      r.depth = 2
    end
  elseif rest:find("[fF].*l") then
    scope, r.split = "l", "line"
  elseif scope == "" or rest:find("[zv].*[lfF]") then
    r.split = "special"
  end
  r.arrow = r.split == "special" and "  -- " or r.split == "line" and "  -- " or r.depth < 0 and "  -> " or "  <- "
  if has.A or has.a then
    r.annotate = has.A and 0 or 3
    scope, r.format, r.split, r.depth = "l", "pl", nil, 1
    r.special = nil
  elseif has.G and scope ~= "" then
    r.format, r.depth, r.raw, r.min = paths .. scope .. "Z;", -100, "graph", 0
    r.split = nil
    r.special = nil
  elseif scope ~= "" then
    local name = r.split == "line" and has.f or has.F or scope
    r.format = paths .. name .. (r.depth >= 0 and "Z < " or "Z > ")
  end
  return r, scope
end

-- A report that is still running is printed when the program ends: what is made last is finalized first, so the guard
-- comes after the file it is written to.
local function watch(r)
  local guard = newproxy(true)
  getmetatable(guard).__gc = function()
    if report == r then finish() end
  end
  return guard
end

local function start(mode, file)
  finish()
  file = file or os.getenv("LUAJIT_PROFILEFILE")
  out = io.stdout
  if file and file ~= "-" then out = assert(io.open(file, "w")) end
  local r, scope = options(mode or "f")
  r.guard = watch(r)
  report = r
  profile.start(scope:lower() .. r.interval, sampled)
end

return { start = start, stop = finish }
