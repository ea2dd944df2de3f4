// Places of a page into which files and folders can be dropped: elements with `data-drop`, whose
// value names the event that the page gets with the paths of the kept files, and `data-takes`, the
// endings of the files that are taken.
(() => {
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

  // Not `fetch`, which does not tell how much of a file has been sent.
  function put(address, file, onSent) {
    return new Promise((done, fail) => {
      const request = new XMLHttpRequest();
      request.open("PUT", address);
      request.upload.onprogress = (event) => onSent(event.loaded);
      request.onerror = () => fail(new Error("The studio cannot be reached."));
      request.onload = () => {
        try {
          done(JSON.parse(request.responseText));
        } catch {
          done({ error: `status ${request.status}` });
        }
      };
      request.send(file);
    });
  }

  async function post(address) {
    const answer = await (await fetch(address, { method: "POST" })).json();
    if (answer.error) throw new Error(answer.error);
    return answer;
  }

  let sending = 0;
  addEventListener("beforeunload", (event) => { if (sending) event.preventDefault(); });

  async function send(zone, found) {
    const said = zone.querySelector("[data-said]");
    const say = (text) => { said.textContent = text; };
    if (zone.dataset.busy) return;
    const endings = zone.dataset.takes.split(" ");
    const shown = found.filter((each) => !each.name.split("/").some((part) => part.startsWith(".")));
    const isTaken = (each) => endings.some((ending) => each.name.toLowerCase().endsWith(ending));
    const taken = shown.filter(isTaken);
    const passed = shown.filter((each) => !isTaken(each));
    if (!taken.length) { say("There is no image in it."); return; }
    zone.dataset.busy = "1";
    sending += 1;
    try {
      const { drop } = await post("/upload/begin");
      const kept = new Array(taken.length), refused = [], sent = new Array(taken.length).fill(0);
      const total = taken.reduce((sum, each) => sum + each.file.size, 0);
      let next = 0, done = 0, all = 0;
      const count = (place, bytes) => {
        all += bytes - sent[place];
        sent[place] = bytes;
        const share = total ? Math.min(100, Math.floor((100 * all) / total)) : 100;
        say(`${done} of ${taken.length} files, ${share} %`);
      };
      const work = async () => {
        while (next < taken.length) {
          const place = next++;
          const each = taken[place];
          const result = await put(
            `/upload/${drop}?path=${encodeURIComponent(each.name)}`, each.file,
            (bytes) => count(place, bytes));
          if (result.error) refused.push(result.error); else kept[place] = result.path;
          done++;
          count(place, each.file.size);
        }
      };
      await Promise.all(Array.from({ length: MOST_AT_ONCE }, work));
      await post(`/upload/${drop}/end`);
      const paths = kept.filter(Boolean);
      // Of a folder with thousands of images the page needs the top only.
      const tops = [...new Set(
        taken.filter((_, place) => kept[place]).map((each) => each.name.split("/")[0]))];
      const goOn = () => emitEvent(zone.dataset.drop, {
        drop, tops, n: paths.length, paths: paths.slice(0, 200),
      });
      const lines = [];
      if (refused.length) lines.push(`${refused.length} of ${taken.length} files refused: ${refused[0]}.`);
      if (passed.length) {
        const what = passed.length === 1 ? "1 file" : `${passed.length} files`;
        lines.push(`${what} left out, of a kind that is not taken: ${passed[0].name}` +
          (passed.length > 1 ? " and others." : "."));
      }
      say(lines.join(" "));
      if (paths.length && !lines.length) goOn();
      else if (paths.length) {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = `Go on with ${paths.length === 1 ? "1 file" : `${paths.length} files`}`;
        button.onclick = () => { say(""); goOn(); };
        said.append(" ", button);
      }
    } catch (error) {
      say(String(error.message || error));
    } finally {
      sending -= 1;
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
