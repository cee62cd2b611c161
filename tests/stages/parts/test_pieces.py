import pyarrow as pa

from taiji.config import LocalCompute, Recipe
from taiji.language.pieces import Pieces
from taiji.stages.parts.context import StageContext
from taiji.stages.parts.shards import rows_of, write_shards
from taiji.store.shards import Shards

NUMBERS = pa.schema([pa.field("n", pa.int64(), nullable=False)])


def test_a_table_is_cut_into_pieces_that_make_it_up_again():
    table = pa.table({"n": range(10)}, NUMBERS)
    pieces = rows_of(table, 4)
    assert list(pieces) == [0, 1, 2]
    assert [pieces.size(number) for number in pieces] == [4, 4, 2]
    assert pa.concat_tables(pieces.values()).equals(table)
    assert len(rows_of(table.slice(0, 0), 4)) == 0


def test_only_what_is_left_is_ever_made_one_piece_at_a_time(tmp_path):
    made, held = [], []

    def cut(start, stop):
        made.append(start)
        return range(start, stop)

    def build():
        def work(piece, note):
            held.append(len(made))
            return pa.table({"n": list(piece)}, NUMBERS)

        return work

    told = []
    recipe = Recipe(name="r", compute=LocalCompute())
    ctx = StageContext(recipe, tmp_path, {}, lambda *row: told.append(row))
    shards = Shards(ctx.parts("numbers"), NUMBERS)
    shards.write(1, pa.table({"n": [4, 5, 6, 7]}, NUMBERS))
    write_shards(ctx, shards, Pieces(10, 4, cut), build, what="numbers")
    assert made == [0, 8]
    assert held == [1, 2], "a piece is made when its turn comes"
    assert told == [(8, 10, "numbers"), (10, 10, "numbers")]
    assert pa.concat_tables(shards.all(3))["n"].to_pylist() == list(range(10))
