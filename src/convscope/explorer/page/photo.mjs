// Pixels of an image file in the size of the network's images, fitted as these were.
import { Maps } from "./maps.mjs";
import { fitted } from "./resize.mjs";

const LARGEST = 1024; // Side to which the browser reduces a photo first, in pixels

export async function photoPixels(file, like, fit) {
  const photo = await createImageBitmap(file), shrink = Math.min(1, LARGEST / Math.max(photo.width, photo.height));
  const width = Math.max(1, Math.round(photo.width * shrink)), height = Math.max(1, Math.round(photo.height * shrink));
  const canvas = Object.assign(document.createElement("canvas"), { width, height }), pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.fillStyle = "#fff"; // what shows through transparent parts
  pen.fillRect(0, 0, width, height);
  pen.drawImage(photo, 0, 0, width, height);
  const { data } = pen.getImageData(0, 0, width, height), image = new Maps(height, width, like.channels);
  for (let i = 0; i < height * width; i++) {
    if (like.channels === 1) image.data[i] = Math.round(0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2]);
    else for (let c = 0; c < 3; c++) image.data[3 * i + c] = data[4 * i + c];
  }
  const found = fitted(image, like.rows, like.columns, fit);
  for (let i = 0; i < found.data.length; i++) found.data[i] = Math.round(found.data[i]);
  return found;
}
