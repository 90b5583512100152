-- Requests of many phones for wrk. Arguments after `--`: file of requests, seed, mean pause in milliseconds (0: none).
-- A line of the file is: target TAB unit TAB entity tag TAB header; unit "*" means a new one for every request, "" none.

local before, after, units = {}, {}, {}
local position, serial, seed, mean_pause = 0, 0, "0", 0

local function read(path)
   for line in io.lines(path) do
      local target, unit, etag, header = line:match("^([^\t]*)\t([^\t]*)\t([^\t]*)\t(.*)$")
      local head = "GET " .. target .. " HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: aerogram-bench\r\n"
      if etag ~= "" then head = head .. "If-None-Match: " .. etag .. "\r\n" end
      if header ~= "" then head = head .. header .. "\r\n" end
      if unit ~= "" then head = head .. "Aerogram-Unit: " end
      before[#before + 1] = head
      units[#units + 1] = unit
      after[#after + 1] = unit == "" and "\r\n" or "\r\n\r\n"
   end
end

local function pause()
   -- Uniform around the mean: without chance, all connections would come in step. wrk waits whole milliseconds only.
   return math.floor(math.random() * 2 * mean_pause + math.random())
end

function init(args)
   read(args[1])
   seed = args[2]
   math.randomseed(tonumber(seed))
   mean_pause = tonumber(args[3])
   if mean_pause > 0 then delay = pause end
end

function request()
   position = position % #before + 1
   local unit = units[position]
   if unit == "*" then
      serial = serial + 1
      unit = string.format("0b7e%s-4c1d-%012x", seed, serial)
   end
   return before[position] .. unit .. after[position]
end

function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '\n{"microseconds":%d,"requests":%d,"bytes":%d,"errors":%d,"p50_us":%d,"p99_us":%d}\n',
      summary.duration, summary.requests, summary.bytes,
      errors.connect + errors.read + errors.write + errors.status + errors.timeout,
      latency:percentile(50), latency:percentile(99)))
end
