// SPDX-License-Identifier: Apache-2.0
import intervals.Interval;
import intervals.IntervalSet;

/** Run with assertions on: java -ea -cp build IntervalSetTest */
public final class IntervalSetTest {
    private static IntervalSet set(int... ends) {
        IntervalSet set = new IntervalSet();
        for (int i = 0; i < ends.length; i += 2) {
            set.add(new Interval(ends[i], ends[i + 1]));
        }
        return set;
    }

    public static void main(String[] args) {
        assert set(1, 3, 5, 7).intervals().toString().equals("[[1,3), [5,7)]") : "apart";
        assert set(1, 5, 3, 8).intervals().toString().equals("[[1,8)]") : "overlapping";
        assert set(1, 3, 3, 5).intervals().toString().equals("[[1,5)]") : "touching";
        assert set(1, 10, 2, 4).intervals().toString().equals("[[1,10)]") : "inside";
        assert set(4, 4).intervals().isEmpty() : "empty interval";
        assert set(0, Integer.MAX_VALUE, Integer.MIN_VALUE, -5).size() == 4294967290L : "size";
        System.out.println("all tests passed");
    }
}
