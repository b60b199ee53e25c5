// SPDX-License-Identifier: Apache-2.0
package intervals;

/** A half-open interval of integers: start is in it, end is not. */
public record Interval(int start, int end) {
    public Interval {
        if (end < start) {
            throw new IllegalArgumentException("end before start: " + start + ".." + end);
        }
    }

    public boolean isEmpty() {
        return start == end;
    }

    public int length() {
        return end - start;
    }

    @Override
    public String toString() {
        return "[" + start + "," + end + ")";
    }
}
