package usedcars;

import java.io.Serializable;
import org.apache.spark.broadcast.Broadcast;
import org.apache.spark.sql.catalyst.util.ArrayData;

/** What a plan calls of flat stages: where they are found, so that they do not travel with each query. */
public final class FlatCall implements Serializable {
    private final Broadcast stages;
    private transient FlatStages found;

    /** Of broadcast flat stages. */
    public FlatCall(Broadcast stages) {
        this.stages = stages;
    }

    /** The predictions for a row. */
    public ArrayData predict(ArrayData numbers, ArrayData words) {
        if (found == null) {
            found = (FlatStages) stages.value();
        }
        return found.predict(numbers, words);
    }
}
