package usedcars;

import java.util.concurrent.ConcurrentHashMap;
import org.apache.spark.unsafe.types.UTF8String;

/** Where the requests of a query wait until it may answer them, and from which offset on it then does. */
public final class Gate {
    private static final ConcurrentHashMap WAYS = new ConcurrentHashMap();

    private Gate() {}

    /** Of one partition. Closed, requests from `first` on wait; those before it never pass. */
    private static final class Way {
        private long first;
        private boolean open;
        private boolean reached;
    }

    private static Way way(String query, int partition) {
        String key = query + "/" + partition;
        Way known = (Way) WAYS.get(key);
        if (known != null) {
            return known;
        }
        Way closed = new Way();
        Way other = (Way) WAYS.putIfAbsent(key, closed);
        return other != null ? other : closed;
    }

    /** Whether the query is to answer the request; waits for the gate to open, unless it is known before. */
    public static boolean passes(UTF8String query, int partition, long offset) throws InterruptedException {
        Way way = way(query.toString(), partition);
        synchronized (way) {
            while (!way.open && offset >= way.first) {
                way.reached = true;
                way.wait();
            }
            return offset >= way.first;
        }
    }

    /** Whether a request waits at the closed gate, or has waited. */
    public static boolean reached(String query, int partition) {
        Way way = way(query, partition);
        synchronized (way) {
            return way.reached;
        }
    }

    /** At a closed gate: others have answered what comes before `first`. */
    public static void answered(String query, int partition, long first) {
        Way way = way(query, partition);
        synchronized (way) {
            if (!way.open && first > way.first) {
                way.first = first;
                way.notifyAll();
            }
        }
    }

    /** Once: what comes later changes nothing. */
    public static void open(String query, int partition, long first) {
        Way way = way(query, partition);
        synchronized (way) {
            if (!way.open) {
                way.first = first;
                way.open = true;
                way.notifyAll();
            }
        }
    }

    /** For good: who asks from now on finds a gate that nobody opens, and waits until it is interrupted. */
    public static void close(String query, int partition) {
        WAYS.remove(query + "/" + partition);
    }
}
