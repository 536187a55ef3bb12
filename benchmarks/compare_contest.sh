#!/bin/sh
# The study's whole table at contest size, on a GPU: five networks, 224 px, 12 epochs, 3 seeds; then the variants of the
# training set and the ways of freezing for ResNet-18 and ResNet-50, into the same table.
#
#   sh benchmarks/compare_contest.sh DATA [GENERATED]
#
# DATA: the contest's folder (or any set of some 30,000 photographs). GENERATED: a folder or manifest of generated bad
# images, where there is one. Killed, it goes on when it is started again. About 3 GB of disk a row and seed for VGG-16,
# 0.4 GB for the others; the decoded photographs take 5 GB more while it runs.
set -eu
data=${1:?"usage: sh benchmarks/compare_contest.sh DATA [GENERATED]"}
generated=${2:-}
here=$(dirname "$0")
variants=as-is,transforms,transforms+without-outliers
more=
if [ -n "$generated" ]; then
    variants=$variants,generated,transforms+generated
    more="--generated $generated"
fi
python "$here/compare.py" contest "$data" --out runs/compare-contest-models
# shellcheck disable=SC2086
python "$here/compare.py" contest "$data" --out runs/compare-contest-variants --models resnet18,resnet50 \
    --training-sets "$variants" --freeze none,stem,all-but-head $more
python "$here/compare.py" contest "$data" --out runs/compare-contest-balance --models resnet18 --balance none,weights,sampling
