// Turns the surfaces of organs with the mouse, a finger or the arrow keys. Needs THREE.
"use strict";
(function () {
  const holder = document.getElementById("surfaces");
  const data = JSON.parse(document.getElementById("surface-data").textContent);
  const message = document.getElementById("surface-message");

  function numbers(text, Kind) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Kind(bytes.buffer);
  }

  let renderer;
  try {
    renderer = new THREE.WebGLRenderer({ antialias: true, preserveDrawingBuffer: true });
  } catch (error) {
    message.textContent = "This browser shows no 3-D (WebGL is off).";
    return;
  }
  message.remove();
  const scene = new THREE.Scene();
  const dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
  scene.background = new THREE.Color(dark ? 0x14171b : 0xf3f5f7);
  const camera = new THREE.PerspectiveCamera(35, 1, 1, 5000);
  scene.add(new THREE.HemisphereLight(0xffffff, 0x666677, 0.75));
  const lamp = new THREE.DirectionalLight(0xffffff, 0.65);
  camera.add(lamp);
  scene.add(camera);

  // World is RAS millimetres: x to the right, y to the front, z to the head.
  const body = new THREE.Group();
  const meshes = {};
  for (const organ of data.organs) {
    const short = numbers(organ.points, Int16Array);
    const points = new Float32Array(short.length);
    for (let n = 0; n < short.length; n += 1) {
      points[n] = short[n] * data.step_mm;
    }
    const geometry = new THREE.BufferGeometry();
    geometry.setAttribute("position", new THREE.BufferAttribute(points, 3));
    const Index = organ.wide ? Uint32Array : Uint16Array;
    geometry.setIndex(new THREE.BufferAttribute(numbers(organ.triangles, Index), 1));
    geometry.computeVertexNormals();
    const colour = new THREE.Color(`rgb(${organ.colour.join(",")})`);
    const material = new THREE.MeshStandardMaterial({ color: colour, roughness: 0.55 });
    meshes[organ.name] = new THREE.Mesh(geometry, material);
    body.add(meshes[organ.name]);
  }
  scene.add(body);

  const view = { turn: 0, tilt: 0.15, distance: data.radius_mm * 3.6 };

  function draw() {
    const width = holder.clientWidth;
    const height = holder.clientHeight;
    if (!width || !height) { return; }
    renderer.setPixelRatio(window.devicePixelRatio || 1);
    renderer.setSize(width, height, false);
    camera.aspect = width / height;
    camera.updateProjectionMatrix();
    // Seen from the front, the patient's right is on the left.
    const flat = Math.cos(view.tilt) * view.distance;
    camera.position.set(
      -Math.sin(view.turn) * flat, Math.cos(view.turn) * flat, Math.sin(view.tilt) * view.distance
    );
    camera.up.set(0, 0, 1);
    camera.lookAt(0, 0, 0);
    lamp.position.set(0.3, 0.6, 0.2);
    renderer.render(scene, camera);
    holder.dataset.turn = view.turn.toFixed(3);
  }

  function change(turn, tilt, zoom) {
    view.turn += turn;
    view.tilt = Math.max(-1.5, Math.min(1.5, view.tilt + tilt));
    view.distance = Math.max(data.radius_mm, Math.min(data.radius_mm * 10, view.distance * zoom));
    draw();
  }

  const canvas = renderer.domElement;
  holder.appendChild(canvas);
  let last = null;
  canvas.addEventListener("pointerdown", (event) => {
    last = [event.clientX, event.clientY];
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last) { return; }
    change((event.clientX - last[0]) * 0.01, (event.clientY - last[1]) * 0.01, 1);
    last = [event.clientX, event.clientY];
  });
  canvas.addEventListener("pointerup", () => { last = null; });
  canvas.addEventListener("pointercancel", () => { last = null; });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    change(0, 0, Math.exp(event.deltaY * 0.001));
  }, { passive: false });
  holder.addEventListener("keydown", (event) => {
    const steps = {
      ArrowLeft: [-0.15, 0, 1], ArrowRight: [0.15, 0, 1], ArrowUp: [0, 0.15, 1],
      ArrowDown: [0, -0.15, 1], "+": [0, 0, 0.9], "-": [0, 0, 1.1],
    };
    if (steps[event.key]) {
      event.preventDefault();
      change(...steps[event.key]);
    }
  });
  for (const box of document.querySelectorAll("input[data-organ]")) {
    box.addEventListener("change", () => {
      const mesh = meshes[box.dataset.organ];
      if (mesh) { mesh.visible = box.checked; }
      draw();
    });
  }
  window.addEventListener("resize", draw);
  draw();
}());
