// The page of viscera serve: uploads, the queue, the viewer and the table of organs.
import { Niivue } from "/static/vendor/niivue-0.69.0.js";

const $ = (id) => document.getElementById(id);
const EVERY_PANE = { axial: 0, coronal: 1, sagittal: 2, all: 3, render: 4 };
const FILE_TITLES = {
  "labels.nii.gz": "labels (NIfTI)", "labels.seg.nrrd": "labels (3D Slicer)",
  "statistics.csv": "volumes (CSV)", "statistics.json": "volumes (JSON)",
  "report.html": "report (HTML)", "report.json": "report (JSON)", "preview.png": "picture",
  "seg.dcm": "DICOM SEG", "rtstruct.dcm": "RTSTRUCT",
};
let token = document.querySelector("meta[name=viscera-token]").content
  || sessionStorage.getItem("viscera-token") || "";
let organs = [];
let open = null; // the job that is looked at
let newest = null; // the job uploaded last: it is opened when it is finished
let hidden = new Set();
const jobs = new Map();
const watched = new Set();

async function call(path, options = {}) {
  const headers = { "X-Viscera-Token": token, ...options.headers };
  const answer = await fetch(`/api/${path}`, { ...options, headers });
  if (answer.status === 401 && !sessionStorage.getItem("viscera-asked")) {
    token = window.prompt("Token of this server") || "";
    sessionStorage.setItem("viscera-token", token);
    return call(path, options);
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

async function upload(files) {
  const chosen = [...files];
  if (!chosen.length) { return; }
  say("");
  let job = null;
  try {
    const path = chosen[0].webkitRelativePath || "";
    const name = chosen.length === 1 ? chosen[0].name : path.split("/")[0] || "DICOM series";
    const body = JSON.stringify({ name, bundle: $("bundle").value });
    job = await (await call("jobs", { method: "POST", body })).json();
    newest = job.id;
    show(job);
    for (const file of chosen) {
      const target = `jobs/${job.id}/files/${encodeURIComponent(file.name)}`;
      await call(target, { method: "PUT", body: file });
    }
    show(await (await call(`jobs/${job.id}/start`, { method: "POST" })).json());
    watch(job.id);
  } catch (error) {
    say(error.message);
    if (job) { await remove(job.id); }
  }
}

async function remove(id) {
  await call(`jobs/${id}`, { method: "DELETE" }).catch(() => {});
  jobs.delete(id);
  if (open === id) { close(); }
  drawQueue();
}

// ---- the queue

function show(job) {
  const before = jobs.get(job.id);
  jobs.set(job.id, job);
  drawQueue();
  const hasEnded = job.state === "finished" && before && before.state !== "finished";
  if (hasEnded && newest === job.id) { openJob(job.id); }
}

async function watch(id) {
  if (watched.has(id)) { return; }
  watched.add(id);
  try {
    const answer = await call(`jobs/${id}/events`);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) { break; }
      text += value;
      const events = text.split("\n\n");
      text = events.pop();
      for (const event of events) { show(JSON.parse(event.replace(/^data: /, ""))); }
    }
  } catch (error) {
    if (jobs.has(id)) { say(error.message); }
  } finally {
    watched.delete(id);
  }
}

function element(kind, values = {}, ...children) {
  const made = Object.assign(document.createElement(kind), values);
  made.append(...children);
  return made;
}

function drawQueue() {
  $("queue").replaceChildren(...[...jobs.values()].map((job) => {
    const item = element("li", { className: job.id === open ? "open" : "" });
    item.dataset.state = job.state;
    const title = element("button", { className: "name", type: "button", textContent: job.name });
    title.addEventListener("click", () => openJob(job.id));
    title.disabled = job.state !== "finished";
    item.append(title);
    if (job.state === "running") {
      const bar = element("progress", { max: 1, value: job.share });
      bar.setAttribute("aria-label", `${job.name}: ${job.stage}`);
      item.append(bar);
    }
    const words = job.state === "running" ? job.stage : job.error || job.state;
    item.append(element("div", { className: job.error ? "fail" : "dim", textContent: words }));
    const label = ["finished", "failed", "cancelled"].includes(job.state) ? "Delete" : "Cancel";
    const button = element("button", { type: "button", textContent: label, className: "dim" });
    button.setAttribute("aria-label", `${label} ${job.name}`);
    button.addEventListener("click", () => remove(job.id));
    item.append(button);
    return item;
  }));
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

function paintOrgans() {
  const overlay = viewer.volumes[1];
  if (!overlay) { return; }
  overlay.setColormapLabel(colormap());
  viewer.setOpacity(1, Number($("opacity").value));
  viewer.updateGLVolume();
}

function applyWindow() {
  const scan = viewer.volumes[0];
  if (!scan) { return; }
  [scan.cal_min, scan.cal_max] = $("window").value.split(",").map(Number);
  viewer.updateGLVolume();
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
  open = id;
  hidden = new Set();
  drawQueue();
  try {
    const job = await (await call(`jobs/${id}`)).json();
    jobs.set(id, job);
    showResult(job);
    const headers = { "X-Viscera-Token": token };
    const base = `/api/jobs/${id}/results/`;
    await viewer.loadVolumes([
      { url: `${base}scan.nii.gz`, name: "scan.nii.gz", headers },
      { url: `${base}labels.nii.gz`, name: "labels.nii.gz", headers },
    ]);
    applyWindow();
    paintOrgans();
    document.body.dataset.open = id;
  } catch (error) {
    say(error.message);
  }
}

function close() {
  open = null;
  delete document.body.dataset.open;
  while (viewer.volumes.length) { viewer.removeVolumeByIndex(0); }
  $("result-title").textContent = "Result";
  $("verdicts").textContent = "No scan is open.";
  for (const id of ["findings", "downloads"]) { $(id).replaceChildren(); }
  $("organs").tBodies[0].replaceChildren();
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
  $("result-title").textContent = job.name;
  const verdicts = Object.values(report.quality).map((quality) => quality.verdict);
  const counts = ["good", "check", "fail"].map((name) => [
    name, verdicts.filter((verdict) => verdict === name).length,
  ]);
  $("verdicts").textContent = counts.filter(([, count]) => count)
    .map(([name, count]) => `${count} ${name}`).join(", ");
  const shown = organs.filter((organ) => organ.name in report.volumes_ml);
  $("organs").tBodies[0].replaceChildren(...shown.map((organ) => organRow(organ, report)));
  $("findings").replaceChildren(...report.findings.map((finding) => {
    const text = `${finding.level}: ${finding.message}${finding.hint ? `; ${finding.hint}` : ""}`;
    const style = finding.level === "warning" ? "check" : "dim";
    return element("li", { className: style, textContent: text });
  }));
  $("downloads").replaceChildren(...job.results.filter((name) => FILE_TITLES[name]).map((name) => {
    const link = element("a", {
      href: `/api/jobs/${job.id}/results/${name}`, textContent: FILE_TITLES[name], download: "",
    });
    if (!document.querySelector("meta[name=viscera-token]").content) {
      link.addEventListener("click", (event) => { event.preventDefault(); download(job, name); });
    }
    return element("li", {}, link);
  }));
}

async function download(job, name) {
  const file = await (await call(`jobs/${job.id}/results/${name}`)).blob();
  const link = element("a", { href: URL.createObjectURL(file), download: name });
  link.click();
  URL.revokeObjectURL(link.href);
}

// ---- start

async function start() {
  for (const name of ["files", "folder"]) {
    $(name).addEventListener("change", (event) => {
      upload(event.target.files);
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
    upload(event.dataTransfer.files);
  });
  $("window").addEventListener("change", applyWindow);
  $("opacity").addEventListener("input", paintOrgans);
  $("layout").addEventListener("change", () => {
    viewer.setSliceType(EVERY_PANE[$("layout").value]);
  });
  organs = await (await call("organs")).json();
  const bundles = await (await call("bundles")).json();
  const offered = bundles.filter((name) => name !== "look");
  $("bundle").replaceChildren(...offered.map((name) => {
    const choice = element("option", { value: name, textContent: name });
    choice.selected = name === "default";
    return choice;
  }));
  for (const job of await (await call("jobs")).json()) {
    show(job);
    if (["waiting", "running"].includes(job.state)) { watch(job.id); }
  }
  await viewer.attachToCanvas($("view"));
  viewer.setSliceType(EVERY_PANE.all);
  document.body.dataset.ready = "yes";
}

start().catch((error) => say(error.message));
