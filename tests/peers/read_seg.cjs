// What OHIF's parser makes of a DICOM SEG: node read_seg.cjs FILE, with dcmjs on NODE_PATH.
const fs = require("fs");
const dcmjs = require("dcmjs");

const bytes = fs.readFileSync(process.argv[2]);
const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
const file = dcmjs.data.DicomMessage.readFile(buffer);
const set = dcmjs.data.DicomMetaDictionary.naturalizeDataset(file.dict);
const list = (value) => (Array.isArray(value) ? value : [value]);
const pixels = new Uint8Array(list(set.PixelData)[0]);
const bits = dcmjs.data.BitArray.unpack(pixels);
const size = set.Rows * set.Columns;
const voxels = {};
list(set.PerFrameFunctionalGroupsSequence).forEach((frame, n) => {
  const identification = list(frame.SegmentIdentificationSequence)[0];
  const number = identification.ReferencedSegmentNumber;
  let count = 0;
  for (let i = n * size; i < (n + 1) * size; i += 1) { count += bits[i] ? 1 : 0; }
  voxels[number] = (voxels[number] || 0) + count;
});
console.log(JSON.stringify(list(set.SegmentSequence).map((segment) => ({
  label: segment.SegmentLabel,
  code: list(segment.SegmentedPropertyTypeCodeSequence)[0].CodeValue,
  voxels: voxels[segment.SegmentNumber] || 0,
}))));
