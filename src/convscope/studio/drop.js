// Places of a page into which files and folders can be dropped: elements with `data-drop`, whose
// value names the event that the page gets with the paths of the kept files.
(() => {
  const IMAGES = /\.(png|jpe?g|gif|bmp|webp|tiff?|ppm|pgm|avif|hei[cf])$/i;
  const TAKEN = /\.(png|jpe?g|gif|bmp|webp|tiff?|ppm|pgm|avif|hei[cf]|csv|tsv|jsonl|zip|tar|tgz|tar\.gz)$/i;
  const MOST_AT_ONCE = 4;

  async function filesOf(entry, path, found) {
    if (entry.name.startsWith(".")) return;
    const name = path ? `${path}/${entry.name}` : entry.name;
    if (entry.isFile) {
      found.push({ name, file: await new Promise((done, fail) => entry.file(done, fail)) });
    } else if (entry.isDirectory) {
      const reader = entry.createReader();
      for (;;) {
        // A reader gives a hundred entries at a time.
        const some = await new Promise((done, fail) => reader.readEntries(done, fail));
        if (!some.length) break;
        for (const each of some) await filesOf(each, name, found);
      }
    }
  }

  async function send(zone, found) {
    const say = (text) => { zone.querySelector("[data-said]").textContent = text; };
    const only = zone.dataset.kinds === "images" ? IMAGES : TAKEN;
    const taken = found.filter((each) => only.test(each.name));
    if (!taken.length) { say("There is no image in it."); return; }
    if (zone.dataset.busy) return;
    zone.dataset.busy = "1";
    try {
      const begun = await (await fetch("/upload/begin", { method: "POST" })).json();
      if (begun.error) throw new Error(begun.error);
      const kept = new Array(taken.length), refused = [];
      let next = 0, done = 0;
      const work = async () => {
        while (next < taken.length) {
          const place = next++;
          const each = taken[place];
          const answer = await fetch(
            `/upload/${begun.drop}?path=${encodeURIComponent(each.name)}`,
            { method: "PUT", body: each.file });
          const result = await answer.json().catch(() => ({ error: `status ${answer.status}` }));
          if (result.error) refused.push(result.error); else kept[place] = result.path;
          say(`${++done} of ${taken.length} files`);
        }
      };
      await Promise.all(Array.from({ length: MOST_AT_ONCE }, work));
      say(refused.length ? `${refused.length} not taken: ${refused[0]}` : "");
      const paths = kept.filter(Boolean);
      if (paths.length) {
        // Of a folder with thousands of images the page needs the top only.
        const tops = [...new Set(taken.map((each) => each.name.split("/")[0]))];
        emitEvent(zone.dataset.drop, {
          drop: begun.drop, tops, n: paths.length, paths: paths.slice(0, 200),
        });
      }
    } catch (error) {
      say(String(error.message || error));
    } finally {
      delete zone.dataset.busy;
    }
  }

  const zoneOf = (event) => event.target.closest && event.target.closest("[data-drop]");
  addEventListener("dragover", (event) => {
    event.preventDefault();
    for (const zone of document.querySelectorAll(".cs-over")) zone.classList.remove("cs-over");
    const zone = zoneOf(event);
    if (zone) zone.classList.add("cs-over");
  });
  addEventListener("drop", async (event) => {
    // A file beside the place must not be opened in place of the page.
    event.preventDefault();
    const zone = zoneOf(event);
    if (!zone) return;
    zone.classList.remove("cs-over");
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry && item.webkitGetAsEntry());
    const plain = [...event.dataTransfer.files];
    const found = [];
    for (const [place, entry] of entries.entries()) {
      if (entry) await filesOf(entry, "", found);
      else if (plain[place]) found.push({ name: plain[place].name, file: plain[place] });
    }
    send(zone, found);
  });
  addEventListener("change", (event) => {
    const zone = zoneOf(event);
    if (!zone || event.target.type !== "file") return;
    const found = [...event.target.files].map((file) => ({ name: file.webkitRelativePath || file.name, file }));
    event.target.value = "";
    send(zone, found);
  });
  // A photograph by the camera of the device; nothing is kept before it is taken.
  async function photograph(zone) {
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch {
      zone.querySelector("[data-said]").textContent = "There is no camera, or it is not allowed.";
      return;
    }
    const dialog = document.createElement("dialog");
    dialog.className = "cs-camera";
    dialog.innerHTML = '<video autoplay playsinline muted></video><div>' +
      '<button data-take>Take the photo</button> <button data-close>Cancel</button></div>';
    const video = dialog.querySelector("video");
    video.srcObject = stream;
    dialog.addEventListener("close", () => {
      for (const track of stream.getTracks()) track.stop();
      dialog.remove();
    });
    dialog.querySelector("[data-close]").onclick = () => dialog.close();
    dialog.querySelector("[data-take]").onclick = () => {
      const canvas = document.createElement("canvas");
      canvas.width = video.videoWidth;
      canvas.height = video.videoHeight;
      canvas.getContext("2d").drawImage(video, 0, 0);
      canvas.toBlob((file) => {
        dialog.close();
        if (file) send(zone, [{ name: `photo-${Date.now()}.jpg`, file }]);
      }, "image/jpeg", 0.92);
    };
    document.body.append(dialog);
    dialog.showModal();
  }
  addEventListener("click", (event) => {
    const asked = event.target.closest && event.target.closest("[data-camera]");
    if (asked) photograph(zoneOf(event));
  });
  addEventListener("paste", (event) => {
    const zone = document.querySelector('[data-drop][data-kinds="images"]');
    const found = [...event.clipboardData.files].map((file) => ({ name: file.name, file }));
    if (zone && found.length) send(zone, found);
  });
})();
