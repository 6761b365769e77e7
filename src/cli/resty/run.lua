-- Behind a line that sets `arg`, `inline` and `file`: runs the code in a timer, then ends the server.
local exit, stderr = os.exit, io.stderr

local function fail(err)
  io.stdout:flush()
  stderr:write("ERROR: ", tostring(err), "\n")
  return exit(1)
end

local function load(path, name)
  local f = assert(io.open(path, "rb"))
  local code = f:read("*a")
  f:close()
  local chunk, err = loadstring((code:gsub("^#[^\n]*", "")), name)
  if not chunk then fail(err) end
  return chunk
end

local parts = {}
if inline then parts[#parts + 1] = load(inline, "=(command line -e)") end
if file then parts[#parts + 1] = load(file, "@" .. file) end

local ok, err = ngx.timer.at(0, function()
  local ok = xpcall(function()
    for i = 1, #parts do parts[i]() end
  end, function(err)
    -- Neither this function nor `error` itself is of interest.
    return fail(debug.traceback(err, 3))
  end)
  if not ok then return fail("error in error handling") end
  io.stdout:flush()
  require("ngx.process").signal_graceful_exit()
end)
if not ok then fail(err) end
