"""The functions the models are built of, and the only names that anyone imports from here.

attention        softmax(q k^T) v where query t sees the keys lo[t] .. hi[t]
grouped_matmul   rows sorted by group, each group times its own matrix
group_block      rows that a group must be padded to a multiple of, for grouped_matmul

`reference` holds the same functions in plain jnp: the oracle of every kernel, and what runs where XLA
does well without one. Which implementation runs is decided here, by platform, and nowhere else.
"""

from kernels.reference import attention, group_block, grouped_matmul

__all__ = ['attention', 'group_block', 'grouped_matmul']
