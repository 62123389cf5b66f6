#!/bin/sh
# As FLARE calls it: CASE_0000.nii.gz in inputs becomes CASE.nii.gz in outputs.
# Its files alone count, so records of what is finished do not stay there.
viscera segment /workspace/inputs -o /workspace/outputs --overwrite --quiet
code=$?
rm -rf /workspace/outputs/.viscera
exit $code
