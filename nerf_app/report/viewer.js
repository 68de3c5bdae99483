"use strict";
// A mesh to turn around: reads the GLB that lies in this page as base64 and draws it with WebGL 2. Asks the network for nothing.
// The mesh's own axes are the input coordinates; the GLB's nodes take them to the *world*, in which +y is up.

const ATTRIBUTES = ["POSITION", "NORMAL", "TEXCOORD_0", "COLOR_0", "_VIEWS"]; // in the order of the shader's locations
const SIZES = {SCALAR: 1, VEC2: 2, VEC3: 3, VEC4: 4};
const MODES = ["colours", "shape", "normals", "views"];
const IDLE_TURN = 0.25; // radians a second until somebody touches it
const FIELD = 0.6; // radians from top to bottom

const VERTEX_SHADER = `#version 300 es
layout(location = 0) in vec3 position;
layout(location = 1) in vec3 normal;
layout(location = 2) in vec2 uv;
layout(location = 3) in vec4 colour;
layout(location = 4) in float views;
uniform mat4 clipFromWorld, worldFromMesh;
out vec3 worldPoint, meshNormal, worldNormal;
out vec4 vertexColour;
out vec2 at;
out float seenBy;
void main() {
  vec4 point = worldFromMesh * vec4(position, 1.0);
  worldPoint = point.xyz;
  meshNormal = normal;
  worldNormal = mat3(worldFromMesh) * normal;
  vertexColour = colour;
  at = uv;
  seenBy = views;
  gl_Position = clipFromWorld * point;
}`;

const FRAGMENT_SHADER = `#version 300 es
precision highp float;
in vec3 worldPoint, meshNormal, worldNormal;
in vec4 vertexColour; // alpha < 0 where the file has no colours
in vec2 at;
in float seenBy;
uniform int mode; // as in MODES; 4: lines
uniform bool hasTexture;
uniform sampler2D photoColours;
uniform vec3 eye, binColours[6];
uniform float binBounds[6];
out vec4 result;

vec3 coded(vec3 linear) { // linear light, which glTF's vertex colours are, for a screen (sRGB)
  return mix(12.92 * linear, 1.055 * pow(linear, vec3(1.0 / 2.4)) - 0.055, step(0.0031308, linear));
}

vec3 binned(float views) {
  for (int i = 0; i < 5; i++) if (views <= binBounds[i] + 0.5) return binColours[i];
  return binColours[5];
}

void main() {
  if (mode == 4) { result = vec4(0.1, 0.12, 0.15, 1.0); return; }
  vec3 towards = normalize(eye - worldPoint);
  vec3 flat_ = normalize(cross(dFdx(worldPoint), dFdy(worldPoint)));
  vec3 normal = dot(worldNormal, worldNormal) > 0.0 ? normalize(worldNormal) : flat_;
  bool isBack = !gl_FrontFacing;
  float lit = 0.35 + 0.55 * abs(dot(normal, towards)) + 0.1 * normal.y;
  vec3 colour = hasTexture ? texture(photoColours, at).rgb : coded(max(vertexColour.rgb, 0.0));
  if (mode == 1 || (mode == 0 && !hasTexture && vertexColour.a < 0.0)) colour = vec3(0.80, 0.79, 0.76) * lit;
  if (mode == 2) colour = 0.5 + 0.5 * normalize(dot(meshNormal, meshNormal) > 0.0 ? meshNormal : flat_);
  if (mode == 3) colour = binned(seenBy) * (0.35 + 0.65 * lit);
  result = vec4(isBack ? 0.55 * colour : colour, 1.0);
}`;

// Matrices are 16 numbers by columns, as WebGL takes them.

function times(a, b) {
  const product = new Float32Array(16);
  for (let column = 0; column < 4; column++)
    for (let row = 0; row < 4; row++)
      for (let k = 0; k < 4; k++) product[4 * column + row] += a[4 * k + row] * b[4 * column + k];
  return product;
}

function transformed(matrix, [x, y, z], w) {
  return [0, 1, 2].map((row) => matrix[row] * x + matrix[4 + row] * y + matrix[8 + row] * z + matrix[12 + row] * w);
}

const difference = (a, b) => a.map((value, i) => value - b[i]);
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const unit = (a) => a.map((value) => value / Math.hypot(...a));

function perspective(aspect, near, far) {
  const f = 1 / Math.tan(FIELD / 2);
  const depth = near - far;
  return new Float32Array([f / aspect, 0, 0, 0, 0, f, 0, 0, 0, 0, (far + near) / depth, -1, 0, 0, 2 * far * near / depth, 0]);
}

function lookingAt(eye, target) {
  const back = unit(difference(eye, target));
  const right = unit(cross([0, 1, 0], back));
  const up = cross(back, right);
  return {right, up, matrix: new Float32Array([
    right[0], up[0], back[0], 0, right[1], up[1], back[1], 0, right[2], up[2], back[2], 0,
    -dot(right, eye), -dot(up, eye), -dot(back, eye), 1])};
}

// The file.

function parseGlb(bytes) {
  const words = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (words.getUint32(0, true) !== 0x46546c67) throw new Error("this is no GLB");
  const jsonLength = words.getUint32(12, true);
  const json = JSON.parse(new TextDecoder().decode(bytes.subarray(20, 20 + jsonLength)));
  const start = 28 + jsonLength;
  return {json, binary: bytes.subarray(start, start + words.getUint32(20 + jsonLength, true))};
}

function viewOf({json, binary}, index) {
  const view = json.bufferViews[index];
  return binary.subarray(view.byteOffset || 0, (view.byteOffset || 0) + view.byteLength);
}

function placedPrimitives({json}) {
  const found = [];
  const identity = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1];
  const visit = (index, parent) => {
    const node = json.nodes[index];
    const matrix = times(parent, node.matrix || identity);
    if (node.mesh !== undefined) for (const primitive of json.meshes[node.mesh].primitives) found.push({primitive, matrix});
    (node.children || []).forEach((child) => visit(child, matrix));
  };
  json.scenes[json.scene || 0].nodes.forEach((index) => visit(index, identity));
  return found;
}

function indicesOf(glb, primitive) {
  const accessor = glb.json.accessors[primitive.indices];
  const kind = {5121: Uint8Array, 5123: Uint16Array, 5125: Uint32Array}[accessor.componentType];
  const begin = accessor.byteOffset || 0;
  const bytes = viewOf(glb, accessor.bufferView).slice(begin, begin + accessor.count * kind.BYTES_PER_ELEMENT);
  return Uint32Array.from(new kind(bytes.buffer));
}

async function textureOf(gl, glb, primitive) {
  const material = (glb.json.materials || [])[primitive.material];
  const base = material && material.pbrMetallicRoughness && material.pbrMetallicRoughness.baseColorTexture;
  if (!base) return null;
  const source = glb.json.images[glb.json.textures[base.index].source];
  const blob = new Blob([viewOf(glb, source.bufferView)], {type: source.mimeType});
  const options = {premultiplyAlpha: "none", colorSpaceConversion: "none"};
  let picture = await createImageBitmap(blob, options);
  const most = gl.getParameter(gl.MAX_TEXTURE_SIZE);
  if (Math.max(picture.width, picture.height) > most)
    picture = await createImageBitmap(picture, {...options, resizeWidth: most, resizeHeight: most});
  const texture = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, texture);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, picture);
  gl.generateMipmap(gl.TEXTURE_2D);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
  return texture;
}

async function uploaded(gl, glb, {primitive, matrix}) {
  const array = gl.createVertexArray();
  gl.bindVertexArray(array);
  ATTRIBUTES.forEach((name, location) => {
    const index = primitive.attributes[name];
    gl.vertexAttrib4f(location, ...(name === "COLOR_0" ? [0, 0, 0, -1] : [0, 0, 0, 1])); // where the file has none
    if (index === undefined) return;
    const accessor = glb.json.accessors[index];
    const view = glb.json.bufferViews[accessor.bufferView];
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, viewOf(glb, accessor.bufferView), gl.STATIC_DRAW);
    gl.enableVertexAttribArray(location);
    const isShare = Boolean(accessor.normalized) || (name === "COLOR_0" && accessor.componentType !== gl.FLOAT);
    gl.vertexAttribPointer(location, SIZES[accessor.type], accessor.componentType, isShare, view.byteStride || 0,
                           accessor.byteOffset || 0);
  });
  const triangles = indicesOf(glb, primitive);
  const faces = gl.createBuffer();
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, faces);
  gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, triangles, gl.STATIC_DRAW);
  gl.bindVertexArray(null);
  const {min, max} = glb.json.accessors[primitive.attributes.POSITION];
  return {array, faces, triangles, matrix, min, max, lines: null, texture: await textureOf(gl, glb, primitive)};
}

function linesOf(gl, part) {
  if (part.lines === null) {
    const {triangles} = part;
    const ends = new Uint32Array(2 * triangles.length);
    for (let i = 0; i < triangles.length; i++) {
      ends[2 * i] = triangles[i];
      ends[2 * i + 1] = triangles[i % 3 === 2 ? i - 2 : i + 1];
    }
    part.lines = gl.createBuffer();
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, part.lines);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, ends, gl.STATIC_DRAW);
  }
  return part.lines;
}

function boundsOf(parts) {
  const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
  for (const {matrix, min, max} of parts)
    for (let corner = 0; corner < 8; corner++)
      transformed(matrix, min.map((value, i) => (corner >> i & 1 ? max[i] : value)), 1).forEach((value, i) => {
        low[i] = Math.min(low[i], value);
        high[i] = Math.max(high[i], value);
      });
  return {centre: low.map((value, i) => (value + high[i]) / 2), radius: Math.hypot(...difference(high, low)) / 2 || 1};
}

function programOf(gl) {
  const program = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX_SHADER], [gl.FRAGMENT_SHADER, FRAGMENT_SHADER]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS))
    throw new Error("This browser cannot draw the mesh: " + gl.getProgramInfoLog(program));
  return program;
}

// Drawing and turning.

class Viewer {
  constructor(canvas, gl, parts, isRoom, from) {
    Object.assign(this, {canvas, gl, parts, isRoom, ...boundsOf(parts)});
    this.program = programOf(gl);
    this.mode = 0;
    this.hasLines = false;
    this.isTouched = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.isVisible = true;
    this.fingers = new Map();
    const towards = unit(transformed(parts[0].matrix, from, 0));
    this.first = {yaw: Math.atan2(towards[0], towards[2]), pitch: Math.min(1.2, Math.max(-1.2, Math.asin(towards[1])))};
    this.place = (name) => gl.getUniformLocation(this.program, name);
    this.reset();
    this.listen();
  }

  reset() {
    Object.assign(this, this.first, {target: [...this.centre], distance: 0.85 * this.radius / Math.sin(FIELD / 2)});
    this.wake();
  }

  wake() {
    if (!this.waiting) this.waiting = requestAnimationFrame((now) => this.draw(now));
  }

  touch() {
    this.isTouched = true;
    this.wake();
  }

  camera() {
    const aspect = this.canvas.width / this.canvas.height;
    const distance = this.distance * Math.max(1, 1 / aspect);
    const out = [Math.cos(this.pitch) * Math.sin(this.yaw), Math.sin(this.pitch), Math.cos(this.pitch) * Math.cos(this.yaw)];
    const eye = this.target.map((value, i) => value + distance * out[i]);
    const {right, up, matrix} = lookingAt(eye, this.target);
    const far = distance + 4 * this.radius;
    const near = Math.max(distance - 4 * this.radius, far / 2000);
    return {eye, right, up, distance, clip: times(perspective(aspect, near, far), matrix)};
  }

  draw(now) {
    this.waiting = 0;
    const {gl, canvas, place} = this;
    const isIdle = !this.isTouched && this.isVisible && !document.hidden;
    if (isIdle && this.before) this.yaw -= IDLE_TURN * Math.min(0.1, (now - this.before) / 1000);
    this.before = isIdle ? now : 0;
    const density = Math.min(devicePixelRatio || 1, 2);
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((side) => Math.max(1, Math.round(side * density)));
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, {width, height});
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    if (this.isRoom) gl.enable(gl.CULL_FACE); // seen from outside, the near walls are in the way
    gl.useProgram(this.program);
    const camera = this.camera();
    gl.uniformMatrix4fv(place("clipFromWorld"), false, camera.clip);
    gl.uniform3fv(place("eye"), camera.eye);
    gl.uniform3fv(place("binColours"), this.binColours);
    gl.uniform1fv(place("binBounds"), this.binBounds);
    for (const part of this.parts) this.drawPart(part);
    if (isIdle) this.wake();
  }

  drawPart(part) {
    const {gl, place} = this;
    gl.bindVertexArray(part.array);
    gl.uniformMatrix4fv(place("worldFromMesh"), false, part.matrix);
    gl.uniform1i(place("hasTexture"), part.texture ? 1 : 0);
    gl.bindTexture(gl.TEXTURE_2D, part.texture);
    gl.uniform1i(place("mode"), this.mode);
    gl.enable(gl.POLYGON_OFFSET_FILL);
    gl.polygonOffset(1, 1);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, part.faces);
    gl.drawElements(gl.TRIANGLES, part.triangles.length, gl.UNSIGNED_INT, 0);
    if (!this.hasLines) return;
    gl.uniform1i(place("mode"), 4);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, linesOf(gl, part));
    gl.drawElements(gl.LINES, 2 * part.triangles.length, gl.UNSIGNED_INT, 0);
  }

  turn(dx, dy) {
    this.yaw -= dx;
    this.pitch = Math.min(1.55, Math.max(-1.55, this.pitch + dy));
    this.touch();
  }

  zoom(factor) {
    this.distance = Math.min(20 * this.radius, Math.max(0.02 * this.radius, this.distance * factor));
    this.touch();
  }

  shift(dx, dy) { // parts of the canvas's height
    const {right, up, distance} = this.camera();
    const scale = 2 * distance * Math.tan(FIELD / 2);
    this.target = this.target.map((value, i) => value + scale * (dy * up[i] - dx * right[i]));
    this.touch();
  }

  listen() {
    const {canvas, fingers} = this;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, event);
      this.touch();
    });
    canvas.addEventListener("pointermove", (event) => {
      if (fingers.has(event.pointerId)) this.dragged(event);
    });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => fingers.delete(event.pointerId));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault()); // the right button moves
    canvas.addEventListener("dblclick", () => this.reset());
    canvas.addEventListener("wheel", (event) => {
      if (document.activeElement !== canvas && !event.ctrlKey) return; // whoever only scrolls past is not held up
      event.preventDefault();
      this.zoom(Math.exp(Math.max(-0.4, Math.min(0.4, event.deltaY * (event.deltaMode === 1 ? 0.05 : 0.0015)))));
    }, {passive: false});
    canvas.addEventListener("keydown", (event) => this.pressed(event));
    new ResizeObserver(() => this.wake()).observe(canvas);
    new IntersectionObserver((entries) => {
      this.isVisible = entries.at(-1).isIntersecting;
      this.wake();
    }).observe(canvas);
    document.addEventListener("visibilitychange", () => this.wake());
  }

  dragged(event) {
    const {canvas, fingers} = this;
    const before = fingers.get(event.pointerId), height = canvas.clientHeight;
    const dx = (event.clientX - before.clientX) / height, dy = (event.clientY - before.clientY) / height;
    if (fingers.size === 2) {
      const other = [...fingers.values()].find((finger) => finger.pointerId !== event.pointerId);
      const apart = (finger) => Math.max(1, Math.hypot(finger.clientX - other.clientX, finger.clientY - other.clientY));
      this.zoom(apart(before) / apart(event));
      this.shift(dx / 2, dy / 2);
    } else if (event.buttons & 6 || event.shiftKey) this.shift(dx, dy);
    else this.turn(3 * dx, 3 * dy);
    fingers.set(event.pointerId, event);
  }

  pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const move = (x, y) => (event.shiftKey ? this.shift(0.06 * x, -0.06 * y) : this.turn(0.12 * x, -0.12 * y));
    const actions = {ArrowLeft: () => move(-1, 0), ArrowRight: () => move(1, 0), ArrowUp: () => move(0, 1),
                     ArrowDown: () => move(0, -1), "+": () => this.zoom(0.9), "=": () => this.zoom(0.9),
                     "-": () => this.zoom(1 / 0.9), "0": () => this.reset()};
    if (!actions[event.key]) return;
    event.preventDefault();
    this.touch();
    actions[event.key]();
  }
}

function bytesOf(base64) {
  const text = atob(base64.trim()), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

function hexColour(text) {
  return [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16) / 255);
}

function offerControls(viewer, holder) {
  for (const control of holder.querySelectorAll("input[name=mode]")) {
    control.addEventListener("change", () => {
      viewer.mode = MODES.indexOf(control.value);
      holder.classList.toggle("shows-views", control.value === "views");
      viewer.wake();
    });
    if (control.checked) control.dispatchEvent(new Event("change"));
  }
  holder.querySelector("input[name=lines]").addEventListener("change", (event) => {
    viewer.hasLines = event.target.checked;
    viewer.wake();
  });
}

async function showMesh(holder) {
  const canvas = holder.querySelector("canvas");
  const gl = canvas.getContext("webgl2", {antialias: true, alpha: true, premultipliedAlpha: false});
  if (!gl) throw new Error("This browser offers no WebGL 2, so here is a picture in place of the mesh.");
  const glb = parseGlb(bytesOf(document.getElementById("mesh-file").textContent));
  const parts = [];
  for (const placed of placedPrimitives(glb)) parts.push(await uploaded(gl, glb, placed));
  const {from, room, colours, bounds} = canvas.dataset;
  const viewer = new Viewer(canvas, gl, parts, room === "yes", from.split(" ").map(Number));
  viewer.binColours = new Float32Array(colours.split(" ").flatMap(hexColour));
  viewer.binBounds = new Float32Array(bounds.split(" ").map(Number));
  offerControls(viewer, holder);
  canvas.addEventListener("webglcontextlost", () => holder.classList.remove("is-live"));
  holder.classList.add("is-live");
  viewer.wake();
}

const holder = document.getElementById("mesh-view");
if (holder) showMesh(holder).catch((error) => {
  holder.classList.remove("is-live");
  holder.querySelector(".trouble").textContent = error.message;
});
