#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
set -e
mkdir -p build
javac -Xlint:all -d build src/intervals/*.java test/*.java
java -ea -cp build IntervalSetTest
