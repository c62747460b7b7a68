#!/bin/sh
# Fills the corpora from the recorded bodies. Run it from anywhere; doing it again does no harm.
set -eu
cd "$(dirname "$0")"
mkdir -p corpus/decode corpus/sign_and_query corpus/fold_order
number=0
for sample in ../tests/it/data/samples/*.json ../tests/it/data/samples/variants/*.json; do
    number=$((number + 1))
    # The first byte chooses the query; this one chooses none.
    { printf '\017'; cat "$sample"; } > "corpus/decode/$(basename "$sample")"
    # Here the bytes of a body stand for a history; which one does not matter.
    head -c 72 "$sample" > "corpus/fold_order/$number"
done
sign=3d2e25811e71e8dd5d24cf6d34aa4abde6b127af4b645302885c9e82908599f5
printf 'SdkAppid=1400000001&CallbackCommand=Group.CallbackAfterCreateGroup&contenttype=json&ClientIP=203.0.113.9&OptPlatform=RESTAPI&Sign=%s&RequestTime=1767225600&RequestID=r-1' "$sign" > corpus/sign_and_query/signed
printf 'SdkAppid=1400000001' > corpus/sign_and_query/unsigned
