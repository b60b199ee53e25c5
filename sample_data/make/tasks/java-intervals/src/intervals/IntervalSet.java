// SPDX-License-Identifier: Apache-2.0
package intervals;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;

/** A set of integers kept as sorted intervals which neither overlap nor touch. */
public final class IntervalSet {
    private final List<Interval> intervals = new ArrayList<>();

    public void add(Interval added) {
        intervals.add(added);
        intervals.sort(Comparator.comparingInt(i -> i.start()));
        List<Interval> merged = new ArrayList<>();
        for (Interval next : intervals) {
            if (!merged.isEmpty()) {
                Interval last = merged.get(merged.size() - 1);
                if (next.start() < last.end()) {
                    merged.set(merged.size() - 1, new Interval(last.start(), next.end()));
                    continue;
                }
            }
            merged.add(next);
        }
        intervals.clear();
        intervals.addAll(merged);
    }

    /** How many integers are in the set. */
    public int size() {
        int size = 0;
        for (Interval interval : intervals) {
            size += interval.length();
        }
        return size;
    }

    public List<Interval> intervals() {
        return List.copyOf(intervals);
    }
}
