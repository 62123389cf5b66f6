#!/bin/sh
# Remove from an environment what segmenting on a CPU never loads: plugins for other devices, readers
# of other networks' files, the installer, headers.
set -eu
cd "$1"/lib/python3*/site-packages
rm -rf openvino/include openvino/cmake pip pip-*.dist-info setuptools setuptools-*.dist-info
cd openvino/libs
rm -f libopenvino_intel_gpu_plugin* libopenvino_intel_npu* libopenvino_hetero_plugin* \
      libopenvino_auto_batch_plugin* libopenvino_tensorflow* libopenvino_pytorch_frontend* \
      libopenvino_paddle_frontend* libopenvino_jax_frontend* libopencl* libOpenCL*
