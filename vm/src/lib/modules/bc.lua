-- jit.bc: lists the bytecode of functions.

local jit = require("jit")
local util = require("jit.util")
local vmdef = require("jit.vmdef")
local funcbc, funck = util.funcbc, util.funck
local band, rshift = bit.band, bit.rshift
local format, gsub, sub = string.format, string.gsub, string.sub

-- Numbers of operand modes, as in jit.util.funcbc.
local UPVALUE, SIGNED, NUMBER, STRING, FUNCTION, JUMP = 5, 7, 9, 10, 12, 13

local short = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function escape(c)
  return short[c] or format("\\%03d", c:byte())
end

local function quote(s)
  local text = gsub(s, "%c", escape)
  if #text > 40 then return '"' .. sub(text, 1, 40) .. '"~' end
  return '"' .. text .. '"'
end

local function jump_target(ins, pc)
  return pc + rshift(ins, 16) - 0x7fff
end

-- What an operand stands for, as text; nil if it is just a number.
local function meaning(func, mode, operand, op)
  if mode == STRING then
    return quote(funck(func, -operand - 1))
  elseif mode == NUMBER then
    local n = funck(func, operand)
    if op == "TSETM " then n = n - 2 ^ 52 end
    return tostring(n)
  elseif mode == FUNCTION then
    local info = util.funcinfo(funck(func, -operand - 1))
    return info.ffid and vmdef.ffnames[info.ffid] or info.loc
  elseif mode == UPVALUE then
    return util.funcuvname(func, operand)
  end
end

-- One instruction as a line of text with its newline; nil behind the end.
local function line(func, pc, prefix)
  local ins, modes = funcbc(func, pc)
  if not ins then return end
  local ma, mb, mc = band(modes, 7), band(rshift(modes, 3), 15), band(rshift(modes, 7), 15)
  local op = sub(vmdef.bcnames, band(ins, 0xff) * 6 + 1, band(ins, 0xff) * 6 + 6)
  local a, d = band(rshift(ins, 8), 0xff), rshift(ins, 16)
  local out = format("%04d %s %-6s %3s ", pc, prefix or "  ", op, ma == 0 and "" or a)
  if mc == JUMP then return format("%s=> %04d\n", out, jump_target(ins, pc)) end
  if mb == 0 and mc == 0 then return out .. "\n" end
  local operand = mb == 0 and d or band(d, 0xff)
  local note = meaning(func, mc, operand, op)
  if ma == UPVALUE then
    local name = util.funcuvname(func, a)
    note = note and name .. " ; " .. note or name
  end
  if mb ~= 0 then
    out = format("%s%3d %3d", out, rshift(ins, 24), operand)
    return note and format("%s  ; %s\n", out, note) or out .. "\n"
  end
  if note then return format("%s%3d      ; %s\n", out, operand, note) end
  if mc == SIGNED and operand > 32767 then operand = operand - 65536 end
  return format("%s%3d\n", out, operand)
end

-- The set of instructions that are jumped to.
local function targets(func)
  local set = {}
  local pc = 1
  while true do
    local ins, modes = funcbc(func, pc)
    if not ins then return set end
    if band(rshift(modes, 7), 15) == JUMP then set[jump_target(ins, pc)] = true end
    pc = pc + 1
  end
end

-- Writes the listing of a function to `out`; with `all`, first those of the functions inside it.
local function dump(func, out, all)
  out = out or io.stdout
  local info = util.funcinfo(func)
  if all and info.children then
    local n = -1
    local k = funck(func, n)
    while k ~= nil do
      if type(k) == "proto" then dump(k, out, true) end
      n = n - 1
      k = funck(func, n)
    end
  end
  out:write(format("-- BYTECODE -- %s-%d\n", info.loc, info.lastlinedefined))
  local set = targets(func)
  local pc = 1
  local text = line(func, pc, set[pc] and "=>")
  while text do
    out:write(text)
    pc = pc + 1
    text = line(func, pc, set[pc] and "=>")
  end
  out:write("\n")
  out:flush()
end

local active, target

local function on_loaded(func)
  dump(func, target)
end

local function off()
  if not active then return end
  active = false
  jit.attach(on_loaded)
  if target ~= io.stdout and target ~= io.stderr then target:close() end
  target = nil
end

-- Lists every function that is loaded from now on: to a file, "-" for standard output, standard error by default.
local function on(file)
  off()
  file = file or os.getenv("LUAJIT_LISTFILE")
  if not file then
    target = io.stderr
  elseif file == "-" then
    target = io.stdout
  else
    target = assert(io.open(file, "w"))
  end
  jit.attach(on_loaded, "bc")
  active = true
end

return { line = line, dump = dump, targets = targets, on = on, off = off, start = on }
