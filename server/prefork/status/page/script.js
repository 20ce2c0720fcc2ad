/**
 * The script of the status page: it shows the status that the document contains, and then follows
 * `status.json`. It is served as text, so it uses nothing from outside the function but its
 * arguments and what browsers have.
 *
 * Clients chose a part of what the status contains: it becomes text nodes only, never markup.
 *
 * @param {Record<string, (...values: any[]) => any>} functions Those of the tables, by name.
 */
export function show(functions) {
  const { formatAge, formatBytes, formatDuration } = functions;
  const { formatP99, formatPercentiles, formatRate, since } = functions;
  const INTERVAL = 2000;
  const SAMPLES = 120;
  /** The number of looks for which response times are told. */
  const LOOKS = 30;
  const CHART = { width: 600, height: 60 };
  const BAR = { width: 200, height: 10 };

  const find = (id) => document.getElementById(id);
  const rows = new Map();
  const rates = [];
  /** The last statuses of this server, the oldest first. */
  const looks = [];
  const drops = new Map();
  let before;
  let isPaused = false;
  let timer;
  let answered = new Date();

  function setText(element, text) {
    // Assigning the same text would end a reader's selection.
    if (element.textContent !== text) element.textContent = text;
  }

  function create(name, attributes = {}, ...children) {
    const isSvg = ["svg", "rect", "path"].includes(name);
    const element = isSvg
      ? document.createElementNS("http://www.w3.org/2000/svg", name)
      : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }

  const count = (number, one, many = one + "s") =>
    number.toLocaleString("en") + " " + (number === 1 ? one : many);

  /** A row of the tree. Its elements are created once and updated in place. */
  function createRow(title) {
    const cells = {};
    const cell = (name, label, ...extra) => {
      cells[name] = create("dd");
      return create("div", { class: name }, create("dt", {}, label), cells[name], ...extra);
    };
    const state = create("span", { class: "state" });
    const now = create("p", { class: "now" });
    const more = create("p", { class: "more" });
    const bar = (first, second) =>
      create(
        "svg",
        {
          viewBox: "0 0 " + BAR.width + " " + BAR.height,
          preserveAspectRatio: "none",
          "aria-hidden": "true",
        },
        first,
        second,
      );
    const part = (name) => create("rect", { class: name, height: BAR.height, width: 0 });
    const bars = { private: part("private"), shared: part("shared"), busy: part("busy") };
    const busyBar = bar(part("room"), bars.busy);
    busyBar.firstChild.setAttribute("width", BAR.width);
    const details = create("details", {}, create("summary", {}, now), more);
    const element = create(
      "li",
      {},
      create("h3", {}, title, " ", state),
      details,
      create(
        "dl",
        {},
        cell("requests", "requests"),
        cell("rate", "per second"),
        cell("errors", "errors"),
        cell("p99", "p99"),
        cell("flight", "in flight"),
        cell("connections", "connections"),
        cell("age", "age"),
        cell("load", "processor", busyBar),
        cell("memory", "memory: private + shared", bar(bars.private, bars.shared)),
      ),
    );
    return { element, state, now, more, cells, bars };
  }

  function rowOf(key, title, list) {
    let row = rows.get(key);
    if (row === undefined) {
      row = createRow(title);
      rows.set(key, row);
      list.append(row.element);
    }
    row.isSeen = true;
    return row;
  }

  function setMemory(row, memory, largest) {
    const width = (bytes) => String(largest === 0 ? 0 : bytes / largest * BAR.width);
    const { privateBytes, sharedBytes } = memory ?? { privateBytes: 0, sharedBytes: 0 };
    row.bars.private.setAttribute("width", width(privateBytes));
    row.bars.shared.setAttribute("x", width(privateBytes));
    row.bars.shared.setAttribute("width", width(sharedBytes));
    setText(
      row.cells.memory,
      memory === null ? "-" : formatBytes(privateBytes) + " + " + formatBytes(sharedBytes),
    );
  }

  /** The requests per second since the status before. */
  function rateOf(now, then, seconds) {
    if (then === undefined || !(seconds > 0)) return undefined;
    return Math.max(0, (now - then) / seconds);
  }

  const connectionsOf = ({ connectionStates: { active, idle, upgraded } }) =>
    active + " active, " + idle + " idle, " + upgraded + " upgraded";

  const rateText = (rate) =>
    rate === undefined ? "-" : rate < 10 ? rate.toFixed(1) : count(Math.round(rate), "", "").trim();

  function nowOf(worker) {
    const request = worker.request.replace(/ \w+:\/\/[^/]+/, " "); // the whole is among the details
    switch (true) {
      case worker.stalled > 0:
        return "blocked for " + formatAge(worker.stalled) +
          (request && ", last request " + request);
      case worker.state === "booting":
        return "starts";
      case worker.state === "stopping":
        return "stops, " + count(worker.inFlight, "request") + " left" +
          (request && ": " + request);
      case worker.inFlight > 0:
        return "answers " + count(worker.inFlight, "request") + ", last " + request;
      default:
        return "waits" + (request && ", last request " + request);
    }
  }

  function setRow(row, state, now, more) {
    row.element.dataset.state = state;
    setText(row.state, state);
    setText(row.now, now);
    setText(row.more, more);
  }

  function setNumbers({ cells, bars }, numbers) {
    for (const name of ["requests", "errors", "flight", "connections"]) {
      setText(cells[name], numbers[name] === undefined ? "-" : numbers[name].toLocaleString("en"));
    }
    setText(cells.rate, rateText(numbers.rate));
    setText(cells.p99, numbers.p99 ?? "-");
    setText(cells.age, numbers.age === undefined ? "-" : formatAge(numbers.age));
    const { busy } = numbers;
    setText(cells.load, busy === undefined ? "-" : Math.round(busy * 100) + "%");
    bars.busy.setAttribute("width", String(Math.min(1, busy ?? 0) * BAR.width));
  }

  /** The response times of the last looks; all of them if nothing was answered in between. */
  function recent(now, then) {
    const difference = since(now, then);
    return difference.count > 0 ? difference : now;
  }

  function drawTimes({ latency, uptime }) {
    const then = looks[0]?.master;
    const times = recent(latency, then?.latency);
    const period = times === latency
      ? "since the start"
      : "of the last " + formatAge(uptime - then.uptime);
    setText(find("period"), period);
    setText(find("times"), formatPercentiles(times) || "-");
  }

  /** Fills a table. Rows that stay are updated in place. */
  function setTable(id, rows) {
    const { tHead: { rows: [titles] }, tBodies: [body] } = find(id);
    const none = ["none", ...Array(titles.cells.length - 1).fill("")];
    const all = rows.length === 0 ? [none] : rows;
    while (body.rows.length > all.length) body.lastElementChild.remove();
    all.forEach((cells, i) => {
      const row = body.rows[i] ?? body.insertRow();
      cells.forEach((text, j) => setText(row.cells[j] ?? row.insertCell(), String(text)));
    });
  }

  function drawTables({ master, workers, listeners, slow }) {
    const now = Date.parse(master.started) + master.uptime * 1000;
    const secondsSince = (time) => Math.max(0, (now - Date.parse(time)) / 1000);
    setTable(
      "listeners",
      listeners.map(({ url, queue, backlog, drops: dropped }) => {
        if (!drops.has(url)) drops.set(url, dropped);
        const first = drops.get(url);
        return [
          queue === null ? "unknown" : queue + " of " + (backlog ?? "?"),
          dropped === null || first === null ? "-" : dropped - first,
          url,
        ];
      }),
    );
    const current = workers.flatMap(({ number, current }) =>
      current.map((one) => ({ number, ...one }))
    ).sort((a, b) => Date.parse(a.since) - Date.parse(b.since));
    setTable(
      "current",
      current.map(({ number, method, url, since }) => [
        number,
        formatAge(secondsSince(since)),
        method + " " + url,
      ]),
    );
    setTable(
      "slow",
      slow.map(({ worker, duration, time, status, method, url }) => [
        worker,
        formatDuration(duration),
        formatAge(Math.max(0, secondsSince(time) - duration)),
        status,
        method + " " + url,
      ]),
    );
  }

  function drawRates() {
    const top = Math.max(1, ...rates);
    const x = (index) => (SAMPLES - rates.length + index) / (SAMPLES - 1) * CHART.width;
    const y = (rate) => CHART.height - 1 - rate / top * (CHART.height - 4);
    const points = rates.map((rate, index) => x(index).toFixed(1) + " " + y(rate).toFixed(1));
    find("rates").setAttribute("d", points.length < 2 ? "" : "M" + points.join("L"));
    setText(find("top"), rates.length === 0 ? "-" : rateText(top));
    setText(find("rate"), rates.length === 0 ? "-" : rateText(rates.at(-1)));
  }

  function draw(status) {
    const { master, admin, workers } = status;
    const then = before !== undefined && before.master.pid === master.pid &&
        before.master.uptime <= master.uptime
      ? before
      : undefined;
    const seconds = then === undefined ? undefined : master.uptime - then.master.uptime;
    const rate = rateOf(master.requests, then?.master.requests, seconds);
    if (rate !== undefined) rates.push(rate);
    if (rates.length > SAMPLES) rates.shift();
    if (then === undefined) looks.length = 0; // another server's
    if (looks.length > LOOKS) looks.shift();

    const isReady = ({ state, stalled }) => state === "ready" && stalled === 0;
    const ready = workers.filter(isReady).length;
    const all = [master, ...admin === null ? [] : [admin], ...workers];
    const memories = all.flatMap(({ memory }) => memory === null ? [] : [memory]);
    const total = memories.reduce((sum, { proportionalBytes }) => sum + proportionalBytes, 0);
    const largest = Math.max(
      0,
      ...memories.map(({ privateBytes, sharedBytes }) => privateBytes + sharedBytes),
    );
    const app = master.app || "An app";
    document.title = ready + "/" + master.workers + " ready, " + app;
    setText(find("app"), app);
    setText(find("url"), master.url);
    for (
      const [id, text] of Object.entries({
        ready: ready + " of " + master.workers,
        uptime: formatAge(master.uptime),
        requests: master.requests.toLocaleString("en"),
        errors: master.errors.toLocaleString("en"),
        crashes: master.crashes.toLocaleString("en"),
        failing: then === undefined ? "-" : formatRate(master.errors - then.master.errors, seconds),
        restarts: master.generation.toLocaleString("en"),
        starts: master.starts.filter(({ count }) => count > 0)
          .map(({ reason, count }) => reason + " " + count).join(", ") || "-",
        total: memories.length === 0 ? "-" : formatBytes(total),
      })
    ) setText(find(id), text);
    drawRates();
    drawTimes(master);
    drawTables(status);

    const { lastReload } = master;
    const reload = lastReload === null
      ? "not yet"
      : (lastReload.success ? "succeeded " : "failed ") +
        new Date(lastReload.time).toLocaleString(undefined, { hour12: false });
    setText(find("reload"), reload);
    find("reload").dataset.failed = String(lastReload?.success === false);
    setText(find("reason"), lastReload?.reason ?? "");
    find("reason").hidden = !lastReload?.reason;

    for (const row of rows.values()) row.isSeen = false;
    const top = rowOf("master", "master", find("tree"));
    setText(top.element.querySelector("h3").firstChild, "master " + master.pid);
    setRow(
      top,
      master.draining ? "stopping" : "running",
      "supervises " + count(master.workers, "worker"),
      "Started " + master.started + ". It serves no requests: these are the sums of all workers, " +
        "including those that have ended.",
    );
    setNumbers(top, {
      requests: master.requests,
      rate,
      errors: master.errors,
      p99: formatP99(recent(master.latency, looks[0]?.master.latency)),
      flight: workers.reduce((sum, { inFlight }) => sum + inFlight, 0),
      connections: workers.reduce((sum, { connections }) => sum + connections, 0),
      age: master.uptime,
    });
    setMemory(top, master.memory, largest);
    // All other processes are the master's children.
    top.list ??= top.element.appendChild(create("ul"));

    const atFirst = new Map(looks[0]?.workers.map((worker) => [worker.pid, worker]));
    for (const worker of workers) {
      const { number, pid, state, stalled, reason, inFlight, connections, ...rest } = worker;
      const row = rowOf(pid, "worker " + number + ", " + pid, top.list);
      const old = then?.workers.find((other) => other.pid === pid);
      setRow(
        row,
        stalled > 0 ? "stalled" : state,
        nowOf(worker),
        "Started " + worker.started +
          (reason === "start" ? " with the server" : ", because the worker before it " + reason) +
          (worker.generation > 0 ? ", after restart " + worker.generation : "") + "." +
          " Connections: " + connectionsOf(worker) + "." +
          (worker.request && " Last request: " + worker.request),
      );
      setNumbers(row, {
        ...rest,
        rate: rateOf(worker.requests, old?.requests, seconds),
        p99: formatP99(recent(worker.latency, atFirst.get(pid)?.latency)),
        flight: inFlight,
        connections,
        // For a stalled worker, the value is as old as its last heartbeat.
        busy: stalled > 0 ? undefined : worker.busy,
      });
      setMemory(row, worker.memory, largest);
    }
    if (admin !== null) {
      const row = rowOf(admin.pid, "admin socket, " + admin.pid, top.list);
      setRow(row, "ready", "serves this page", "It serves no clients of the app.");
      row.element.dataset.kind = "admin";
      setMemory(row, admin.memory, largest);
    }
    for (const [key, row] of rows) {
      if (row.isSeen) continue;
      row.element.remove();
      rows.delete(key);
    }
    arrange(top.list, [...workers.map(({ pid }) => pid), ...admin === null ? [] : [admin.pid]]);
    before = status;
    looks.push(status);
  }

  /** Puts the rows into an order. Those that are in their place are not touched: they keep focus. */
  function arrange(list, keys) {
    keys.forEach((key, index) => {
      const { element } = rows.get(key);
      if (list.children[index] !== element) list.insertBefore(element, list.children[index]);
    });
  }

  async function look() {
    try {
      const response = await fetch("status.json", { signal: AbortSignal.timeout(10_000) });
      if (!response.ok) throw new Error("status " + response.status);
      const status = await response.json();
      if (isPaused) return;
      answered = new Date();
      draw(status);
      setText(find("message"), "");
      delete document.body.dataset.stale;
    } catch {
      document.body.dataset.stale = "";
      setText(
        find("message"),
        "The server does not answer. This is how it was at " +
          answered.toLocaleTimeString(undefined, { hour12: false }),
      );
    }
  }

  /** Looks now and then again and again, but not while nobody sees the page. */
  async function follow() {
    clearTimeout(timer);
    const own = timer = setTimeout(() => {});
    if (!isPaused && !document.hidden) await look();
    // Another call may have taken over in the meantime.
    if (own === timer && !isPaused && !document.hidden) timer = setTimeout(follow, INTERVAL);
  }

  find("pause").addEventListener("click", () => {
    isPaused = !isPaused;
    find("pause").setAttribute("aria-pressed", String(isPaused));
    follow();
  });
  document.addEventListener("visibilitychange", follow);
  draw(JSON.parse(find("status").textContent));
  timer = setTimeout(follow, INTERVAL);
}
