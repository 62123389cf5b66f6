// The page of viscera serve: uploads, the queue, the viewer and the table of organs.
import { Niivue, NVImage } from "/static/vendor/niivue-0.69.0.js";

const $ = (id) => document.getElementById(id);
const EVERY_PANE = { axial: 0, coronal: 1, sagittal: 2, all: 3, render: 4 };
const FILE_TITLES = {
  "labels.nii.gz": "labels (NIfTI)", "labels.seg.nrrd": "labels (3D Slicer)",
  "statistics.csv": "volumes (CSV)", "statistics.json": "volumes (JSON)",
  "report.html": "report (HTML)", "report.json": "report (JSON)", "preview.png": "picture",
  "seg.dcm": "DICOM SEG", "rtstruct.dcm": "RTSTRUCT",
};
// The address that `viscera serve` prints ends in the token, which then stays in this tab.
const brought = location.hash.slice(1);
if (brought) {
  sessionStorage.setItem("viscera-token", brought);
  history.replaceState(null, "", location.pathname);
}
const token = sessionStorage.getItem("viscera-token") || "";
let organs = []; // of the open result
let open = null; // the job that is looked at
let newest = null; // the job uploaded last: it is opened when it is finished
let hidden = new Set();
let opening = 0; // grows with each scan that is opened or closed: what was begun before is stale
let loading = Promise.resolve(); // the viewer loads one scan after another
const jobs = new Map();
const rows = new Map();

async function call(path, options = {}) {
  const headers = { "X-Viscera-Token": token, ...options.headers };
  const answer = await fetch(`/api/${path}`, { ...options, headers });
  if (answer.status === 401) {
    throw new Error("Open the whole address that viscera serve has printed, # and all.");
  }
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({ error: answer.statusText }));
    throw new Error(problem.error);
  }
  return answer;
}

function say(text) {
  $("message").textContent = text;
}

// ---- uploads

const VOLUME = /\.(nii|nii\.gz|nrrd|nhdr|mha|zip)$/i;

async function upload(files) {
  say("");
  const chosen = [...files];
  // Each volume or archive is a scan; all other files together are one DICOM series.
  const volumes = chosen.filter((file) => VOLUME.test(file.name));
  const others = chosen.filter((file) => !VOLUME.test(file.name));
  for (const file of volumes) { await uploadScan(file.name, [file]); }
  if (others.length) {
    const folder = (others[0].webkitRelativePath || "").split("/")[0];
    const name = folder || (others.length === 1 ? others[0].name : "DICOM series");
    await uploadScan(name, others);
  }
}

async function uploadScan(name, files) {
  let job = null;
  try {
    const body = JSON.stringify({ name, bundle: $("bundle").value });
    job = await (await call("jobs", { method: "POST", body })).json();
    newest = job.id;
    show(job);
    for (const file of files) {
      const target = `jobs/${job.id}/files/${encodeURIComponent(file.name)}`;
      await call(target, { method: "PUT", body: file });
    }
    show(await (await call(`jobs/${job.id}/start`, { method: "POST" })).json());
  } catch (error) {
    say(error.message);
    if (job) { await remove(job.id); }
  }
}

async function filesOf(entry) {
  if (entry.isFile) {
    return [await new Promise((done, fail) => { entry.file(done, fail); })];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((done, fail) => { reader.readEntries(done, fail); });
    if (!some.length) { return found; }
    for (const inner of some) { found.push(...await filesOf(inner)); }
  }
}

async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  for (const entry of entries.filter((item) => item.isDirectory)) {
    await upload(await filesOf(entry));
  }
  const files = [];
  for (const entry of entries.filter((item) => item.isFile)) { files.push(...await filesOf(entry)); }
  await upload(files);
}

async function remove(id) {
  await call(`jobs/${id}`, { method: "DELETE" }).catch((error) => say(error.message));
  forget(id);
}

// ---- the queue

function forget(id) {
  jobs.delete(id);
  if (rows.has(id)) { rows.get(id).item.remove(); }
  rows.delete(id);
  if (open === id) { close(); }
}

function show(job) {
  const before = jobs.get(job.id);
  jobs.set(job.id, job);
  drawRow(job);
  if (!before || before.state === job.state) { return; }
  if (["finished", "failed"].includes(job.state)) {
    $("status").textContent = `${job.name}: ${job.error || job.state}`;
  }
  if (job.state === "finished" && newest === job.id) { openJob(job.id); }
}

// One call a second tells of all jobs, those of other tabs and deleted ones included.
async function follow() {
  for (;;) {
    try {
      const listed = await (await call("jobs")).json();
      const ids = new Set(listed.map((job) => job.id));
      listed.forEach(show);
      [...jobs.keys()].filter((id) => !ids.has(id)).forEach(forget);
      $("queue").dataset.seen = "yes";
    } catch (error) {
      say(error.message);
    }
    await new Promise((done) => { setTimeout(done, 700); });
  }
}

function element(kind, values = {}, ...children) {
  const made = Object.assign(document.createElement(kind), values);
  made.append(...children);
  return made;
}

function makeRow(job) {
  const item = element("li");
  const title = element("button", { className: "name", type: "button", textContent: job.name });
  title.addEventListener("click", () => openJob(job.id));
  const bar = element("progress", { max: 1, value: 0 });
  bar.setAttribute("aria-label", `Progress of ${job.name}`);
  const words = element("div");
  const button = element("button", { type: "button", className: "dim" });
  button.addEventListener("click", () => remove(job.id));
  item.append(title, bar, words, button);
  $("queue").append(item);
  return { item, title, bar, words, button };
}

// A row is made once and then changed, so that the focus stays where it is.
function drawRow(job) {
  if (!rows.has(job.id)) { rows.set(job.id, makeRow(job)); }
  const { item, title, bar, words, button } = rows.get(job.id);
  item.dataset.state = job.state;
  item.classList.toggle("open", job.id === open);
  title.disabled = job.state !== "finished";
  bar.hidden = job.state !== "running";
  bar.value = job.share;
  words.className = job.error ? "fail" : "dim";
  words.textContent = job.state === "running" ? job.stage : job.error || job.state;
  const label = ["finished", "failed", "cancelled"].includes(job.state) ? "Delete" : "Cancel";
  button.textContent = label;
  button.setAttribute("aria-label", `${label} ${job.name}`);
}

function markOpen() {
  for (const [id, row] of rows) { row.item.classList.toggle("open", id === open); }
}

// ---- the viewer

const viewer = new Niivue({
  backColor: [0, 0, 0, 1], show3Dcrosshair: true, isColorbar: false, multiplanarShowRender: 1,
  isRadiologicalConvention: true, loadingText: "",
});
viewer.onLocationChange = (place) => { $("position").textContent = place.string || ""; };

function colormap() {
  const table = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: ["background"] };
  for (const organ of organs) {
    table.R.push(organ.colour[0]);
    table.G.push(organ.colour[1]);
    table.B.push(organ.colour[2]);
    table.A.push(hidden.has(organ.name) ? 0 : 255);
    table.I.push(organ.id);
    table.labels.push(organ.title);
  }
  return table;
}

// What is chosen on the page goes to the images; a layer is then drawn anew. Each draws alone, as the
// scan's takes long where no GPU helps.
function paintLabels(labels) {
  labels.setColormapLabel(colormap());
  labels.opacity = Number($("opacity").value);
}

function applyWindow(scan) {
  [scan.cal_min, scan.cal_max] = $("window").value.split(",").map(Number);
}

function redraw(layer, change) {
  const image = viewer.volumes[layer];
  if (!image) { return; }
  change(image);
  viewer.refreshLayers(image, layer);
  viewer.drawScene();
}

const paintOrgans = () => redraw(1, paintLabels);

async function load(job) {
  const headers = { "X-Viscera-Token": token };
  const [scan, labels] = await Promise.all(["scan.nii.gz", "labels.nii.gz"].map((name) => (
    NVImage.loadFromUrl({ url: `/api/jobs/${job}/results/${name}`, name, headers })
  )));
  applyWindow(scan);
  paintLabels(labels);
  return [scan, labels];
}

function goTo(organ) {
  const overlay = viewer.volumes[1];
  if (!overlay) { return; }
  const [, nx, ny, nz] = overlay.dimsRAS;
  const image = overlay.img2RAS();
  const sums = [0, 0, 0];
  const voxels = [];
  for (let z = 0, n = 0; z < nz; z += 1) {
    for (let y = 0; y < ny; y += 1) {
      for (let x = 0; x < nx; x += 1, n += 1) {
        if (image[n] === organ.id) {
          sums[0] += x; sums[1] += y; sums[2] += z;
          voxels.push(n);
        }
      }
    }
  }
  if (!voxels.length) { return; }
  // The voxel of the organ nearest to its middle: the middle itself may lie outside.
  const middle = sums.map((sum) => sum / voxels.length);
  let best = null;
  let least = Infinity;
  for (const n of voxels) {
    const at = [n % nx, Math.floor(n / nx) % ny, Math.floor(n / (nx * ny))];
    const far = at.reduce((total, value, axis) => total + (value - middle[axis]) ** 2, 0);
    if (far < least) { least = far; best = at; }
  }
  viewer.scene.crosshairPos = overlay.convertVox2Frac(best);
  viewer.createOnLocationChange();
  viewer.drawScene();
}

async function openJob(id) {
  close();
  open = id;
  const turn = opening;
  markOpen();
  try {
    const job = await (await call(`jobs/${id}`)).json();
    if (turn !== opening) { return; }
    showResult(job);
    loading = loading.catch(() => {}).then(async () => {
      if (turn !== opening) { return; }
      const images = await load(id);
      if (turn !== opening) { return; }
      viewer.volumes = images;
      viewer.setVolume(images[0], 0); // both are drawn, once
      document.body.dataset.open = id;
    });
    await loading;
  } catch (error) {
    if (turn !== opening) { return; }
    close();
    say(error.message);
  }
}

function empty() {
  while (viewer.volumes.length) { viewer.removeVolumeByIndex(0); }
}

function close() {
  opening += 1;
  open = null;
  hidden = new Set();
  delete document.body.dataset.open;
  empty();
  markOpen();
  $("result-title").textContent = "Result";
  $("verdicts").textContent = "No scan is open.";
  for (const id of ["findings", "downloads"]) { $(id).replaceChildren(); }
  $("organs").tBodies[0].replaceChildren();
}

// Instead of the viewer's own keys, some of which are the browser's.
function moveCrosshair(event) {
  const steps = {
    ArrowLeft: [-1, 0, 0], ArrowRight: [1, 0, 0], ArrowUp: [0, 1, 0], ArrowDown: [0, -1, 0],
    PageUp: [0, 0, 1], PageDown: [0, 0, -1],
  };
  if (event.ctrlKey || event.metaKey || event.altKey || event.key === "Tab") { return; }
  event.stopImmediatePropagation();
  if (steps[event.key] && viewer.volumes.length) {
    event.preventDefault();
    viewer.moveCrosshairInVox(...steps[event.key]);
  }
}

// ---- the result

function colourBox(organ) {
  const space = "http://www.w3.org/2000/svg";
  const box = document.createElementNS(space, "svg");
  box.setAttribute("class", "colour");
  box.setAttribute("viewBox", "0 0 1 1");
  box.setAttribute("aria-hidden", "true");
  const fill = document.createElementNS(space, "rect");
  fill.setAttribute("width", "1");
  fill.setAttribute("height", "1");
  fill.setAttribute("fill", `rgb(${organ.colour.join(",")})`);
  box.append(fill);
  return box;
}

function organRow(organ, report) {
  const volume = report.volumes_ml[organ.name];
  const quality = report.quality[organ.name];
  const box = element("input", { type: "checkbox", checked: volume > 0, disabled: !volume });
  box.setAttribute("aria-label", `Show ${organ.title}`);
  box.addEventListener("change", () => {
    if (box.checked) { hidden.delete(organ.name); } else { hidden.add(organ.name); }
    paintOrgans();
  });
  const go = element("button", { type: "button", textContent: organ.title, disabled: !volume });
  go.addEventListener("click", () => goTo(organ));
  const ml = volume >= 10 ? volume.toFixed(0) : volume.toFixed(1);
  const isCut = report.cut_organs.includes(organ.name);
  const verdict = element("td");
  if (quality) {
    verdict.append(element("span", { className: quality.verdict, textContent: quality.verdict }));
    for (const reason of quality.reasons) {
      verdict.append(element("div", { className: "reason", textContent: reason }));
    }
  }
  const text = volume ? `${isCut ? "> " : ""}${ml}` : "none";
  return element(
    "tr", {}, element("td", {}, box, colourBox(organ), go),
    element("td", { className: "number", textContent: text }), verdict,
  );
}

function showResult(job) {
  const report = job.report;
  organs = report.labels;
  $("result-title").textContent = job.name;
  const verdicts = Object.values(report.quality).map((quality) => quality.verdict);
  const counts = ["good", "check", "fail"].map((name) => [
    name, verdicts.filter((verdict) => verdict === name).length,
  ]);
  $("verdicts").textContent = counts.filter(([, count]) => count)
    .map(([name, count]) => `${count} ${name}`).join(", ");
  $("organs").tBodies[0].replaceChildren(...organs.map((organ) => organRow(organ, report)));
  $("findings").replaceChildren(...report.findings.map((finding) => {
    const text = `${finding.level}: ${finding.message}${finding.hint ? `; ${finding.hint}` : ""}`;
    const style = finding.level === "warning" ? "check" : "dim";
    return element("li", { className: style, textContent: text });
  }));
  $("downloads").replaceChildren(...job.results.filter((name) => FILE_TITLES[name]).map((name) => {
    const button = element("button", { type: "button", textContent: FILE_TITLES[name] });
    button.addEventListener("click", () => {
      download(job, name).catch((error) => say(error.message));
    });
    return element("li", {}, button);
  }));
}

async function download(job, name) {
  const file = await (await call(`jobs/${job.id}/results/${name}`)).blob();
  const stem = job.name.replace(/[^A-Za-z0-9_-]+/g, "_");
  const link = element("a", { href: URL.createObjectURL(file), download: `${stem}_${name}` });
  link.click();
  URL.revokeObjectURL(link.href);
}

// ---- start

async function start() {
  for (const name of ["files", "folder"]) {
    $(name).addEventListener("change", (event) => {
      const files = [...event.target.files];
      event.target.value = ""; // so that the same file can be chosen again
      upload(files);
    });
  }
  const drop = document.body;
  drop.addEventListener("dragover", (event) => {
    event.preventDefault();
    $("drop").classList.add("over");
  });
  drop.addEventListener("dragleave", () => $("drop").classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    $("drop").classList.remove("over");
    dropped(event.dataTransfer);
  });
  $("window").addEventListener("change", () => redraw(0, applyWindow));
  $("opacity").addEventListener("input", paintOrgans);
  $("layout").addEventListener("change", () => {
    viewer.setSliceType(EVERY_PANE[$("layout").value]);
  });
  const bundles = await (await call("bundles")).json();
  const offered = bundles.filter((name) => name !== "look");
  $("bundle").replaceChildren(...offered.map((name) => {
    const choice = element("option", { value: name, textContent: name });
    choice.selected = name === "default";
    return choice;
  }));
  follow();
  $("view").addEventListener("keydown", moveCrosshair, true);
  await viewer.attachToCanvas($("view"));
  viewer.setSliceType(EVERY_PANE.all);
  document.body.dataset.ready = "yes";
}

start().catch((error) => say(error.message));
