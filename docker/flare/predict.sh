#!/bin/sh
# As FLARE calls it: CASE_0000.nii.gz in inputs becomes CASE.nii.gz in outputs.
# Its files alone count: records and the list of failures, which are on stderr too, do not stay.
viscera segment /workspace/inputs -o /workspace/outputs --overwrite --quiet
code=$?
rm -rf /workspace/outputs/.viscera /workspace/outputs/failures.csv
exit $code
